"""Train your own LightningModule with lazygraph's data module; Lightning handles devices, checkpoints and resuming."""

import lightning
import torch

import lazygraph as lg
from lazygraph.training.models import find_model


class Density(lightning.LightningModule):
    """A model that predicts the density."""

    def __init__(self) -> None:
        super().__init__()
        self.network = find_model("cgcnn").build(outputs=1)

    def training_step(self, batch, batch_idx):
        """Return the mean absolute error of a batch."""
        return torch.nn.functional.l1_loss(self.network(batch), batch.y)

    def validation_step(self, batch, batch_idx):
        """Log the mean absolute error of a batch."""
        self.log("val_mae", torch.nn.functional.l1_loss(self.network(batch), batch.y), batch_size=batch.num_graphs)

    def configure_optimizers(self):
        """Return AdamW with its learning rate."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


if __name__ == "__main__":  # with several devices, Lightning runs this file once per device
    lg.write("prototypes:200?seed=0", "demo.lg", graph="cgcnn", split=(0.8, 0.1, 0.1))
    ds = lg.LazyGraphDataset("demo.lg", target="density", view="matformer")
    data = lg.LazyGraphDataModule(ds, batch_size=32)
    trainer = lightning.Trainer(max_epochs=3, accelerator="auto", logger=False, enable_progress_bar=False)
    trainer.fit(Density(), data)
    print(f"validation MAE {float(trainer.callback_metrics['val_mae']):.3f}")
