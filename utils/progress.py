"""The progress bar of Lightning's loops."""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.callbacks.progress.rich_progress import RichProgressBarTheme

from utils.console import is_terminal


def progress_bars() -> list[pl.Callback]:
    """The callbacks of a Trainer: a bar on a terminal, none in a log file."""
    if not is_terminal():
        return []
    # Three digits that matter, so that a learning rate is not shown as 0.000.
    return [RichProgressBar(theme=RichProgressBarTheme(metrics_format=".3g"))]
