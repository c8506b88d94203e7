"""Crop pre-training: the backbone first learns to classify crops of the objects.

From random weights and a few hundred images a detector learns to localise objects long before it
can classify them. A classifier of their crops learns that in minutes; the detector then starts from
its backbone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from model.training.recipe import warmup_cosine
from utils.console import say
from utils.errors import UserError
from utils.options import Budget

BATCH_SIZE = 48
LEARNING_RATE = 2e-3
AUTO_STEPS = (100, 1500)  # fewest and most
AUTO_EPOCHS = 60
AUTO_EPOCHS_PRETRAINED = 20  # ImageNet's features need fewer
# Most crop steps per detector step; a detector step takes several times longer.
AUTO_SHARE = 4
LINE_EVERY = 100  # steps


def fixed_budget(
    budget: Budget, num_crops: int, detector_steps: int, *, pretrained: bool = False
) -> Budget:
    """The budget with a number of steps where it is automatic.

    Each of ``num_crops`` crops is shown often enough to be learned, but training on them stays in
    proportion to the ``detector_steps`` that follow. pretrained: whether the backbone has learned
    from other images.
    """
    if not budget.is_auto:
        return budget
    fewest, most = AUTO_STEPS
    epochs = AUTO_EPOCHS_PRETRAINED if pretrained else AUTO_EPOCHS
    steps = min(epochs * num_crops // BATCH_SIZE, AUTO_SHARE * detector_steps)
    return Budget(steps=min(most, max(fewest, steps)))


class CropBatches(IterableDataset):
    """Endless random batches of crops, as they are stored.

    images: uint8 (N, 3, S, S). labels: int64 (N,). Each batch has every class equally often on
    average, however rare it is.
    """

    def __init__(self, images: Tensor, labels: Tensor, batch_size: int, seed: int) -> None:
        self.images, self.labels = images, labels
        self.batch_size, self.seed = batch_size, seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(self.seed)
        weights = 1.0 / self.labels.bincount()[self.labels].float()
        while True:
            rows = torch.multinomial(weights, self.batch_size, True, generator=generator)
            yield self.images[rows], self.labels[rows]


class CropClassifier(pl.LightningModule):
    """A linear classifier of crops on top of a detector's backbone body.

    body: float (B, 3, H, W) to a dict of maps, the last one the deepest. num_classes: background
    counted. side: pixels of its square input, a window of each crop. mean, std: of the detector's
    normalisation. max_rotation: degrees, in both directions.
    """

    phase = "crops"  # what the lines about its progress begin with

    def __init__(
        self,
        body: nn.Module,
        num_classes: int,
        side: int,
        budget: Budget,
        *,
        mean: list[float],
        std: list[float],
        max_rotation: float = 20.0,
    ) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.body = body
        self.classifier = nn.LazyLinear(num_classes)
        self.side, self.budget, self.max_rotation = side, budget, max_rotation
        self.steps_done, self.seconds = 0, 0.0
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)
        self._start = 0.0
        with torch.no_grad():
            # Creates the classifier's weights for the body's number of channels.
            self.eval()(torch.zeros(1, 3, side, side))
        self.train()

    def forward(self, images: Tensor) -> Tensor:
        """images: float (B, 3, side, side) in 0..1. Returns logits (B, num_classes)."""
        maps = self.body((images - self.mean) / self.std)
        *_, deepest = maps.values()
        return self.classifier(deepest.mean(dim=(2, 3)).float())

    def share_done(self) -> float:
        """0 at the start, 1 when the budget is spent."""
        return min(1.0, self.budget.progress(self.steps_done, self.seconds))

    def on_train_start(self) -> None:
        self.train()
        self._start = time.monotonic()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        crops, labels = batch
        views = random_views(crops, self.side, self.max_rotation)
        logits = self(views)
        loss = F.cross_entropy(logits, labels, label_smoothing=0.05)
        if not torch.isfinite(loss):
            raise UserError(
                f"the loss of crop pre-training is no longer finite at step {self.global_step}; "
                "give --precision fp32 or --crop-pretraining off."
            )
        hits = (logits.argmax(dim=1) == labels).float().mean()
        self.log_dict({"crop_loss": loss.detach(), "crop_accuracy": hits}, prog_bar=True)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.steps_done = self.global_step
        self.seconds = time.monotonic() - self._start
        if self.steps_done % LINE_EVERY == 0:
            values = self.trainer.callback_metrics
            loss, accuracy = float(values["crop_loss"]), float(values["crop_accuracy"])
            say("crops", f"step {self.steps_done}  loss {loss:.3f}  accuracy {accuracy:.0%}")
        if self.budget.progress(self.steps_done, self.seconds) >= 1:
            self.trainer.should_stop = True

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=LEARNING_RATE, weight_decay=0.05)

        def factor(step: int) -> float:
            seconds = time.monotonic() - self._start if step else 0.0
            return warmup_cosine(int(1000 * self.budget.progress(step, seconds)), 30, 1000)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @torch.no_grad()
    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """Share of crops classified correctly, without augmentation; nan without crops."""
        if len(labels) == 0:
            return float("nan")
        self.eval()
        hits = 0
        for crops, truth in zip(images.split(64), labels.split(64), strict=True):
            views = central_views(crops.to(self.device), self.side)
            hits += int((self(views).argmax(dim=1).cpu() == truth).sum())
        return hits / len(labels)


def random_views(crops: Tensor, side: int, max_rotation: float) -> Tensor:
    """A random window of each crop, rotated, scaled, mirrored, with other colours.

    crops: uint8 (B, 3, S, S). Returns float (B, 3, side, side) in 0..1. max_rotation: degrees.
    """
    count, device = len(crops), crops.device
    uniform = torch.rand(9, count, device=device) * 2 - 1
    angle = uniform[0] * torch.pi * max_rotation / 180
    # From the object alone (1 / MARGIN of the stored window) to some of its surroundings.
    zoom = 0.8 + 0.15 * uniform[1]
    stretch = 1 + 0.12 * uniform[2]
    mirror = torch.where(uniform[3] < 0, -1.0, 1.0)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = [
        torch.stack([cos * mirror * stretch, -sin, 0.12 * uniform[4]], dim=1),
        torch.stack([sin * mirror * stretch, cos, 0.12 * uniform[5]], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), [count, 3, side, side], align_corners=False)
    pixels = crops.float() / 255
    views = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    gain = (1 + 0.3 * uniform[6])[:, None, None, None]
    contrast = (1 + 0.3 * uniform[7])[:, None, None, None]
    tint = 1 + 0.12 * (torch.rand(count, 3, 1, 1, device=device) * 2 - 1)
    middle = views.mean(dim=(1, 2, 3), keepdim=True)
    return (((views - middle) * contrast + middle) * gain * tint).clamp(0, 1)


def central_views(crops: Tensor, side: int) -> Tensor:
    """The middle of each crop as it is in ``random_views`` on average; float in 0..1."""
    inner = round(0.8 * crops.shape[-1])
    start = (crops.shape[-1] - inner) // 2
    window = crops[:, :, start : start + inner, start : start + inner].float() / 255
    return F.interpolate(window, size=(side, side), mode="bilinear", antialias=True)


def crop_loader(images: Tensor, labels: Tensor, seed: int) -> DataLoader:
    """Endless training batches for ``CropClassifier``."""
    return DataLoader(CropBatches(images, labels, BATCH_SIZE, seed), batch_size=None)
