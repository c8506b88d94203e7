"""Fit a detector, and what a failure means to the user."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from evaluation.run_pictures import save_curves
from model.lightning_trainer import DetectorModule, NonFiniteLoss
from utils.console import say
from utils.errors import UserError
from utils.lightning_setup import readable_failures
from utils.run_folder import CURVES, LAST, METRICS_FILE


def fit(
    trainer: pl.Trainer,
    module: DetectorModule,
    train: DataLoader,
    validation: DataLoader,
    run: Path,
    last: Path | None = None,
) -> None:
    """Train ``module``, from the state in the checkpoint ``last`` if there is one.

    Raises UserError for a loss that is not finite and for the failures that ``readable_failures``
    knows, and KeyboardInterrupt after a line on how to go on.
    """
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
        hint = "no epoch was finished yet: start again with -t True"
        if (run / LAST).is_file():
            hint = f"finished epochs are saved: continue with python main.py --resume {run}"
            save_curves(run / METRICS_FILE, run / CURVES)
        epoch = min(trainer.current_epoch + 1, trainer.max_epochs or 0)
        say("stopped", f"in epoch {epoch}; {hint}")
        raise
