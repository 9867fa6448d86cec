"""Train any model that takes a PyG batch in a plain PyTorch loop, with lazygraph's loader."""

import torch

import lazygraph as lg
from lazygraph.training.models import find_model

lg.write("prototypes:200?seed=0", "demo.lg", graph="cgcnn", split=(0.8, 0.1, 0.1))
ds = lg.LazyGraphDataset("demo.lg", target="density", view="matformer")
train = lg.loader(ds.split("train"), batch_size=32, shuffle=True)
validation = train.evaluation(ds.split("val"))

model = find_model("cgcnn").build(outputs=1)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for epoch in range(3):
    model.train()
    for batch in train:  # each iteration is the next epoch, in a new order
        optimizer.zero_grad()
        torch.nn.functional.l1_loss(model(batch), batch.y).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        errors = torch.cat([(model(batch) - batch.y).abs() for batch in validation])
    print(f"epoch {epoch}: validation MAE {errors.mean():.3f} {ds.manifest.columns['density'].unit}")
    # Save this state in the checkpoint too. Training can then continue in the middle of an epoch.
    state = train.state_dict()
