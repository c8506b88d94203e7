"""What every Lightning Trainer of the program gets: its bar, quiet libraries, readable failures."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.callbacks.progress.rich_progress import RichProgressBarTheme

from utils.console import is_terminal, say
from utils.errors import UserError, first_line
from utils.hardware import Machine


def make_trainer(
    machine: Machine, callbacks: Sequence[pl.Callback] = (), **options: Any
) -> pl.Trainer:
    """A Trainer with a bar on a terminal, which writes no file unless the options say so."""
    bar: list[pl.Callback] = []
    if is_terminal():
        # Three significant digits: a learning rate is not shown as 0.000.
        bar = [RichProgressBar(theme=RichProgressBarTheme(metrics_format=".3g"))]
    return pl.Trainer(
        **{"logger": False, "enable_checkpointing": False, **options},
        enable_model_summary=False,
        enable_progress_bar=is_terminal(),
        callbacks=[*bar, *callbacks],
        **machine.trainer_options(),
    )


# Warnings about what the program reports itself, or about what is intended.
NOT_FOR_THE_USER = (
    ".*does not have many workers.*",
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
