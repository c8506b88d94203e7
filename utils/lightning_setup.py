"""What every Lightning Trainer of the program gets: its bar, quiet libraries, readable failures."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.callbacks.progress.rich_progress import RichProgressBarTheme
from pytorch_lightning.trainer.states import TrainerFn

from utils.console import is_terminal, say
from utils.errors import UserError, first_line
from utils.hardware import Machine
from utils.time_left import TimeLeft, duration


def make_trainer(
    machine: Machine, callbacks: Sequence[pl.Callback] = (), **options: Any
) -> pl.Trainer:
    """A Trainer that shows how long it will take, and writes no file unless the options say so."""
    return pl.Trainer(
        **{"logger": False, "enable_checkpointing": False, **options},
        enable_model_summary=False,
        enable_progress_bar=is_terminal(),
        callbacks=[Bar() if is_terminal() else TimeLeftLines(), *callbacks],
        **machine.trainer_options(),
    )


def share_done(trainer: pl.Trainer, module: pl.LightningModule) -> float:
    """Of a training, in steps or, where it ends by the clock, in time."""
    own: Callable[[], float] | Any = getattr(module, "share_done", None)
    return own() if own else module.global_step / trainer.estimated_stepping_batches


class Bar(RichProgressBar):
    """Lightning's bar of an epoch, with the time that the whole training will still take."""

    def __init__(self) -> None:
        # Three significant digits: a learning rate is not shown as 0.000.
        super().__init__(theme=RichProgressBarTheme(metrics_format=".3g"))
        self._left: TimeLeft | None = None

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        metrics = super().get_metrics(trainer, pl_module)
        if trainer.training:
            share = share_done(trainer, pl_module)
            self._left = self._left or TimeLeft(share)
            seconds = self._left.seconds(share)
            metrics["left"] = "" if seconds is None else duration(seconds)
        return metrics


class TimeLeftLines(pl.Callback):
    """Where there is no bar, a line every ``LINE_EVERY`` seconds."""

    def __init__(self) -> None:
        self._left = TimeLeft()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._left = TimeLeft(share_done(trainer, pl_module))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        if self._left.line_is_due():
            share = share_done(trainer, pl_module)
            phase = getattr(pl_module, "phase", "training")
            say(phase, f"{share:.0%} done, {self._left.text(share)}")

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            self._left = TimeLeft()

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        if self._left.line_is_due():
            done, total = batch_idx + 1, int(trainer.num_val_batches[0])
            alone = trainer.state.fn != TrainerFn.FITTING
            left = f", {self._left.text(done / total)}" if alone else ""
            say("measuring", f"batch {done} of {total}{left}")


# Warnings about what the program reports itself, or about what is intended.
NOT_FOR_THE_USER = (
    ".*does not have many workers.*",
    ".*worker processes in total.*",  # more than cores: two of them cost little
    ".*exists and is not empty.*",
    ".*The dirpath has changed.*",
    ".*GPU available but not used.*",
    ".*is smaller than the logging interval.*",
    ".*`training_step` returned `None`.*",
    r".*module\(s\) in eval mode.*",
    r".*isinstance\(treespec, LeafSpec\).*",
)


def quieten_libraries() -> None:
    """Leave the terminal to the program's own lines; a warning becomes one of them."""
    for library in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        logging.getLogger(library).setLevel(logging.WARNING)
    warnings.showwarning = lambda message, *_, **__: say("warning", str(message))
    for text in NOT_FOR_THE_USER:
        warnings.filterwarnings("ignore", text)


COMPILER = ("torch._dynamo", "torch._inductor")  # where torch.compile's own errors come from


@contextmanager
def readable_failures() -> Iterator[None]:
    """Around a Trainer: too little memory, a dead loader and a full disk become UserErrors.

    Ctrl-C is raised as KeyboardInterrupt; Lightning makes a SystemExit of it.
    """
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
    except torch.OutOfMemoryError as error:
        raise UserError(
            "the graphics card's memory is full; give a smaller --batch-size or --image-size."
        ) from error
    except OSError as error:
        raise UserError(f"a file cannot be written or read: {error}.") from error
    except RuntimeError as error:
        if type(error).__module__.startswith(COMPILER):
            raise UserError(
                f"--compile: torch.compile failed here ({first_line(error)}); leave the flag out."
            ) from error
        if "DataLoader worker" not in str(error):
            raise
        raise UserError(
            "a process that loads images died, usually for lack of memory; give a smaller "
            "--workers, 0 at the least, or more shared memory (docker run --shm-size)."
        ) from error
