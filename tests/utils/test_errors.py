"""The one error of the user, on its way to the command line."""

from __future__ import annotations

import pytest
from torch.utils.data import DataLoader, Dataset

from utils.errors import UserError


class MovedError(UserError):
    """As ``UserError`` would be if its module had another name."""


class Failing(Dataset):
    def __init__(self, error: type[UserError]) -> None:
        self.error = error

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise self.error("a.jpg: cannot be read; replace it.")


@pytest.mark.parametrize("error", [UserError, MovedError])
def test_an_error_of_a_loader_process_arrives_as_its_own_line(error: type[UserError]) -> None:
    with pytest.raises(error) as caught:
        next(iter(DataLoader(Failing(error), num_workers=1)))
    assert str(caught.value) == "a.jpg: cannot be read; replace it."
