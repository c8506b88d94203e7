"""Libraries that say too much, or the wrong thing."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def interrupts_pass() -> Iterator[None]:
    """Around a Lightning Trainer: Ctrl-C leaves it as KeyboardInterrupt, not as its own exit."""
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
