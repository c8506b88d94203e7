"""Fixtures that several tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.tiny_runs import train, write_tiny_cards

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def cards_dir() -> Path:
    """The real photographs of playing cards; a test that needs them is skipped without them."""
    folder = Path(os.environ.get("CARDS_DIR", ROOT.parent / "shared" / "play_cards"))
    if not (folder / "train_labels.csv").is_file():
        pytest.skip(f"no real cards in {folder}; set CARDS_DIR to their folder")
    return folder


@pytest.fixture(scope="session")
def tiny_cards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_cards(tmp_path_factory.mktemp("data") / "cards")


@pytest.fixture(scope="session")
def tiny_run(tiny_cards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two epochs."""
    output = tmp_path_factory.mktemp("runs")
    assert train(tiny_cards, output, "--epochs", "2", crops="2steps") == 0
    return output / "run"


@pytest.fixture
def sigint_as_before() -> Iterator[None]:
    """Lightning leaves SIGINT ignored after an interrupt."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
