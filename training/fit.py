"""Fit a detector: its Lightning Trainer and loaders, and what a failure means to the user."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.data import DataLoader

from data.augmentation import TrainingTransform, training_canvas
from data.dataset import DataSplits
from data.loader import make_loader
from evaluation.run_pictures import save_curves
from model.checkpoint import WholeCheckpointIO
from model.lightning_trainer import DetectorModule, NonFiniteLoss
from utils.console import is_terminal, say
from utils.errors import UserError
from utils.hardware import Machine
from utils.lightning_setup import progress_bars, readable_failures
from utils.run_folder import CURVES, LAST, METRICS_FILE

LOG_EVERY = 5  # steps, for TensorBoard; a tiny epoch is logged whole
LEAST_OVERFIT_STEPS = 25  # an epoch of --overfit repeats its few images until it has as many


@dataclass(frozen=True)
class FitSettings:
    """image_size: pixels of the longer side. gradient_clip: largest norm, 0 for none. overfit:
    whether the images are so few that an epoch repeats them. The others are as the flags."""

    epochs: int
    val_every: int
    gradient_clip: float
    image_size: int
    batch_size: int
    workers: int
    seed: int
    scale_jitter: float
    quarter_turns: bool
    overfit: bool


def fit(
    module: DetectorModule,
    splits: DataSplits,
    settings: FitSettings,
    run: Path,
    machine: Machine,
    callbacks: Sequence[pl.Callback],
    last: Path | None = None,
) -> None:
    """Train ``module``; logs and ``last.pth`` of every epoch go into the folder ``run``.

    last: the checkpoint whose state the training starts from. Raises UserError for a loss that is
    not finite and for the failures that ``readable_failures`` knows, and KeyboardInterrupt after a
    line on how to go on.
    """
    train, validation = _make_loaders(splits, settings, machine)
    steps_per_epoch = math.ceil(len(splits.train) / settings.batch_size)
    trainer = _make_trainer(settings, run, machine, callbacks, steps_per_epoch)
    state = str(last) if last else None
    try:
        with readable_failures():
            trainer.fit(module, train, validation, ckpt_path=state, weights_only=True)
    except NonFiniteLoss as error:
        files = ", ".join(str(train.dataset.path(i)) for i in error.image_ids)  # type: ignore[attr-defined]
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
        say("stopped", f"in epoch {min(trainer.current_epoch + 1, settings.epochs)}; {hint}")
        raise


def _make_trainer(
    settings: FitSettings,
    run: Path,
    machine: Machine,
    callbacks: Sequence[pl.Callback],
    steps_per_epoch: int,
) -> pl.Trainer:
    last = ModelCheckpoint(
        dirpath=run,
        filename=Path(LAST).stem,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    last.FILE_EXTENSION = Path(LAST).suffix
    return pl.Trainer(
        max_epochs=settings.epochs,
        check_val_every_n_epoch=min(settings.val_every, settings.epochs),
        gradient_clip_val=settings.gradient_clip or None,
        num_sanity_val_steps=0,
        logger=TensorBoardLogger(run, name="", version=""),
        log_every_n_steps=min(LOG_EVERY, steps_per_epoch),
        enable_model_summary=False,
        enable_progress_bar=is_terminal(),
        callbacks=[*progress_bars(), *callbacks, last],
        plugins=[WholeCheckpointIO()],
        **machine.trainer_options(),
    )


def _make_loaders(
    splits: DataSplits, settings: FitSettings, machine: Machine
) -> tuple[DataLoader, DataLoader]:
    """Of augmented training images, shuffled, and of validation images."""
    train, turns = splits.train, settings.quarter_turns
    if settings.overfit:
        repeats = -(-LEAST_OVERFIT_STEPS * settings.batch_size // len(train))
        train = train.subset([*range(len(train))] * repeats)
    sizes = (annotation.size for annotation in train.annotations)
    canvas = training_canvas(sizes, settings.image_size, square=turns)
    transform = TrainingTransform(canvas, scale_jitter=settings.scale_jitter, quarter_turns=turns)
    make = partial(
        make_loader,
        batch_size=settings.batch_size,
        workers=settings.workers,
        seed=settings.seed,
        pin_memory=machine.device.type == "cuda",
    )
    return make(train.with_transform(transform), shuffle=True), make(splits.validation)
