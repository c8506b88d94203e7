"""Libraries that talk too much."""

from __future__ import annotations

import logging
import warnings

# What these warn of is either said by the program itself or is as it should be.
NOT_FOR_THE_USER = (
    ".*does not have many workers.*",
    ".*exists and is not empty.*",
    r".*module\(s\) in eval mode.*",
    r".*isinstance\(treespec, LeafSpec\).*",
)


def quieten_libraries() -> None:
    """Leave the terminal to the program's own lines."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for text in NOT_FOR_THE_USER:
        warnings.filterwarnings("ignore", text)
