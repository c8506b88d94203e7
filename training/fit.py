"""Fit a detector: the Lightning Trainer of a run, and what its failures mean to the user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.data import DataLoader

from data.dataset import Dataset
from evaluation.run_pictures import save_curves
from model.checkpoint import WholeCheckpointIO
from model.lightning_trainer import DetectorModule, NonFiniteLoss
from utils.console import is_terminal, say
from utils.errors import UserError
from utils.hardware import Machine
from utils.lightning_setup import progress_bars, readable_failures
from utils.run_folder import CURVES, LAST, METRICS_FILE

LOG_EVERY = 5  # steps, for TensorBoard; a tiny epoch is logged whole


@dataclass(frozen=True)
class Schedule:
    """val_every: epochs. gradient_clip: largest norm, 0 for none. steps_per_epoch: of each."""

    epochs: int
    val_every: int
    gradient_clip: float
    steps_per_epoch: int


def make_trainer(
    run: Path, schedule: Schedule, machine: Machine, callbacks: Sequence[pl.Callback]
) -> pl.Trainer:
    """A Trainer that logs into the folder ``run`` and saves ``last.pth`` there every epoch."""
    last = ModelCheckpoint(
        dirpath=run,
        filename=Path(LAST).stem,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    last.FILE_EXTENSION = Path(LAST).suffix
    return pl.Trainer(
        max_epochs=schedule.epochs,
        check_val_every_n_epoch=min(schedule.val_every, schedule.epochs),
        gradient_clip_val=schedule.gradient_clip or None,
        num_sanity_val_steps=0,
        logger=TensorBoardLogger(run, name="", version=""),
        log_every_n_steps=min(LOG_EVERY, schedule.steps_per_epoch),
        enable_model_summary=False,
        enable_progress_bar=is_terminal(),
        callbacks=[*progress_bars(), *callbacks, last],
        plugins=[WholeCheckpointIO()],
        **machine.trainer_options(),
    )


def fit(
    trainer: pl.Trainer,
    module: DetectorModule,
    loaders: tuple[DataLoader, DataLoader],
    run: Path,
    last: Path | None = None,
) -> None:
    """Train ``module``, from the state of the checkpoint ``last`` where there is one.

    Raises UserError for a loss that is not finite and for what ``readable_failures`` knows, and
    KeyboardInterrupt after telling how to go on.
    """
    try:
        with readable_failures():
            trainer.fit(module, *loaders, ckpt_path=str(last) if last else None, weights_only=True)
    except NonFiniteLoss as error:
        train = loaders[0].dataset
        assert isinstance(train, Dataset)
        files = ", ".join(str(train.path(i)) for i in error.image_ids)
        losses = ", ".join(f"{name} {value}" for name, value in error.losses.items())
        raise UserError(
            f"the loss is no longer finite ({losses}) in epoch {trainer.current_epoch + 1}, on the "
            f"images {files}; the checkpoints of earlier epochs are kept. Give a lower "
            f"--learning-rate than {module.recipe.learning_rate:g}, or --precision fp32."
        ) from error
    except KeyboardInterrupt:
        hint = "no epoch was whole yet: start again with -t True"
        if (run / LAST).is_file():
            hint = f"whole epochs are saved: go on with python main.py --resume {run}"
            save_curves(run / METRICS_FILE, run / CURVES)
        epoch = min(trainer.current_epoch + 1, trainer.max_epochs or 1)
        say("stopped", f"in epoch {epoch}; {hint}")
        raise
