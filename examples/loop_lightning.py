"""Train your own LightningModule with lazygraph's data module; Lightning handles devices, checkpoints and resuming."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor

import lazygraph as lg
from lazygraph.training.models import find_model


class Density(lightning.LightningModule):
    """A model that predicts the density.

    Args:
        mean: mean of the labels of the training graphs.
        deviation: their standard deviation.
    """

    def __init__(self, mean: float, deviation: float) -> None:
        super().__init__()
        self.network = find_model("cgcnn").build(outputs=1)
        self.mean, self.deviation = mean, deviation

    def error(self, batch: Any) -> Tensor:
        """Return the mean absolute error of a batch, in the unit of the label."""
        return torch.nn.functional.l1_loss(self.mean + self.deviation * self.network(batch), batch.y)

    def training_step(self, batch: Any, _: int) -> Tensor:
        """Return the error of a batch."""
        return self.error(batch)

    def validation_step(self, batch: Any, _: int) -> None:
        """Log the error of a batch."""
        self.log("val_mae", self.error(batch), batch_size=batch.num_graphs)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return AdamW with its learning rate."""
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


if __name__ == "__main__":  # with several devices, Lightning runs this file once per device
    lg.write(
        "prototypes:400?seed=0", "demo.lg", graph="cgcnn", units={"density": "g/cm^3"}, split=(0.8, 0.1, 0.1),
        overwrite=True,
    )  # fmt: skip
    ds = lg.LazyGraphDataset("demo.lg", target="density", view="matformer")
    labels = ds.split("train").columns["density"]
    data = lg.LazyGraphDataModule(ds, batch_size=32)
    lightning.seed_everything(0, verbose=False)
    trainer = lightning.Trainer(max_epochs=6, accelerator="auto", logger=False, enable_progress_bar=False)
    trainer.fit(Density(labels.mean(), labels.std()), data)
    unit = ds.manifest.columns["density"].unit
    print(f"validation MAE {float(trainer.callback_metrics['val_mae']):.2f} {unit}")
    baseline = abs(ds.split("val").columns["density"] - labels.mean()).mean()
    print(f"a predictor of the mean: {baseline:.2f} {unit}")
