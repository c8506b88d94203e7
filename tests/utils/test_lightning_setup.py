"""What breaks while a Trainer runs reaches the user as a line."""

from __future__ import annotations

import pytest
import torch

from utils.errors import UserError
from utils.lightning_setup import readable_failures


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "--batch-size"),
        (OSError(28, "No space left on device", "last.pth"), "No space left.*last.pth"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error."), "--workers"),
    ],
)
def test_a_known_failure_becomes_a_user_error(failure: Exception, words: str) -> None:
    with pytest.raises(UserError, match=words), readable_failures():
        raise failure


def test_an_unknown_failure_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="size mismatch"), readable_failures():
        raise RuntimeError("size mismatch")


def test_lightnings_exit_after_ctrl_c_is_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt), readable_failures():
        raise SystemExit(1)
