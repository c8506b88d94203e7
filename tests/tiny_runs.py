"""Runs of a few steps on a few drawn pictures, from the command line."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from main import main
from tests.data_sets import write_cards

CPU = ("-d", "cpu", "-w", "0")
FAST = (*CPU, "--precision", "fp32", "--batch-size", "4")
NEW = ("--backbone-weights", "none", "--image-size", "64", "--anchor-scale", "0.25")


def write_tiny_cards(folder: Path) -> Path:
    """Eight training and four validation pictures; validation has no queen."""
    names = ("ace", "king", "queen")
    train = {f"t{i}.png": [(names[i % 3], 8, 8, 40, 44)] for i in range(8)}
    test = {f"v{i}.png": [(names[i % 2], 10, 6, 44, 40)] for i in range(4)}
    return write_cards(folder, train, test)


def train(cards: Path, output: Path, *flags: str, crops: str = "off") -> int:
    """Train from random weights, by default without crops; the exit status."""
    new = ("--crop-pretraining", crops, *NEW)
    return main([*place(cards, output), *FAST, *new, *flags])


def train_on(checkpoint: Path, cards: Path, output: Path, *flags: str) -> int:
    """Train from a checkpoint's weights; the exit status."""
    return main([*place(cards, output), *FAST, "-l", str(checkpoint), *flags])


def place(cards: Path, output: Path) -> list[str]:
    return ["-t", "True", "-p", str(cards), "--output", str(output), "--name", "run"]


def monitor(checkpoint: Path, *flags: str) -> int:
    return main(["-l", str(checkpoint), *CPU, *flags])


def rows_of(run: Path) -> list[dict[str, str]]:
    """Of ``metrics.csv``."""
    with open(run / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an error that was printed."""
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error:")]
    return line
