"""Libraries that say too much."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from utils.console import say

# What these warn of is either said by the program itself or is as it should be.
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
    warnings.showwarning = _show_warning
    for text in NOT_FOR_THE_USER:
        warnings.filterwarnings("ignore", text)


def _show_warning(message: Warning | str, *args: Any, **more: Any) -> None:
    say("warning", str(message))
