"""What may go wrong while a Lightning Trainer runs, in a line a user can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from utils.errors import UserError, first_line

COMPILER = ("torch._dynamo", "torch._inductor")  # where torch.compile's own errors come from


@contextmanager
def readable_failures() -> Iterator[None]:
    """Around a Trainer: too little memory, a dead loader and a full disk become UserErrors.

    Ctrl-C leaves as KeyboardInterrupt; Lightning makes an exit of its own of it.
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
            "a process that loads images died, mostly for want of memory; give a smaller "
            "--workers, 0 at the least, or more shared memory (docker run --shm-size)."
        ) from error
