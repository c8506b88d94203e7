"""The callback that reports images that became unreadable during a run."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn

from data.dataset import Dataset
from data.remarks import CHECK_HINT
from utils.console import say
from utils.errors import UserError
from utils.text import listed

MOST_LOST = 0.5  # of a split's images; beyond, a disk is gone and not a file


class LostImages(pl.Callback):
    """After each epoch, reports the images that were left out; an unchanged list is not repeated.

    The probe before the run reads header and end, so damage in the middle shows only here.
    Raises UserError when most of a split is gone: the checkpoints of earlier epochs are kept.
    """

    def __init__(self) -> None:
        self._reported: dict[str, list[int]] = {"training": [], "validation": []}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._report(trainer, "training", trainer.train_dataloader)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._report(trainer, "validation", trainer.val_dataloaders)

    def _report(self, trainer: pl.Trainer, split: str, loader: Any) -> None:
        # A monitor validates once, in no epoch.
        fitting = trainer.state.fn == TrainerFn.FITTING
        when = f"epoch {trainer.current_epoch + 1}: " if fitting else ""
        dataset: Dataset = loader.dataset
        lost = dataset.unreadable.nonzero().flatten().tolist()
        dataset.unreadable.zero_()  # a network drive may come back
        files = sorted({str(dataset.path(row)) for row in lost})
        if len(lost) > MOST_LOST * len(dataset):
            raise UserError(
                f"{when}{len(files)} {split} images can no longer be read, e.g. "
                f"{files[0]}; is their disk still there?"
            )
        if lost and lost != self._reported[split]:
            say(
                "note",
                f"{when}{len(files)} {split} image(s) could not be read and were left out: "
                f"{listed(files, hint=CHECK_HINT)}",
            )
        self._reported[split] = lost
