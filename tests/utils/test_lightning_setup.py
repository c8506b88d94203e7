"""What breaks while a Trainer runs reaches the user as a line."""

from __future__ import annotations

import pytest
import torch

from utils.errors import UserError
from utils.lightning_setup import readable_failures


@pytest.mark.parametrize(
    ("failure", "expected", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), UserError, "--batch-size"),
        (OSError(28, "No space left on device", "last.pth"), UserError, "No space left.*last.pth"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal"), UserError, "--workers"),
        (RuntimeError("size mismatch"), RuntimeError, "^size mismatch"),
        (SystemExit(1), KeyboardInterrupt, "^$"),  # Lightning's exit after Ctrl-C
    ],
)
def test_a_known_failure_becomes_a_user_error_or_an_interrupt(
    failure: BaseException, expected: type[BaseException], words: str
) -> None:
    with pytest.raises(expected, match=words), readable_failures():
        raise failure
