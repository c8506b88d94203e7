"""What breaks while a Trainer runs reaches the user as a line."""

from __future__ import annotations

import re
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from model.training.crop_pretraining import CropClassifier
from utils import lightning_setup, time_left
from utils.errors import UserError
from utils.hardware import Machine
from utils.lightning_setup import Bar, make_trainer, readable_failures


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


class Line(pl.LightningModule):
    """Fits a line."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.layer(batch).square().mean()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.layer(batch)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


@pytest.fixture
def fast_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks at it again finds four seconds gone."""
    ticks = iter(range(10**6))
    monkeypatch.setattr(time_left, "monotonic", lambda: 4.0 * next(ticks))


def batches(count: int) -> DataLoader:
    return DataLoader(torch.ones(count, 1))  # type: ignore[arg-type]


@pytest.mark.usefixtures("fast_clock")
def test_a_log_file_says_how_long_a_training_and_a_measurement_will_take(
    capsys: pytest.CaptureFixture[str],
) -> None:
    trainer = make_trainer(Machine(torch.device("cpu"), "fp32"), max_epochs=3)
    trainer.fit(Line(), batches(40), batches(20))
    lines = [x for x in capsys.readouterr().out.splitlines() if x.startswith(("train", "meas"))]
    of_training = [x for x in lines if x.startswith("training")]
    assert len(of_training) > 5
    form = r"training  (\d+)% done, about .* left"
    shares = [int(match[1]) for x in of_training if (match := re.fullmatch(form, x))]
    assert len(shares) == len(of_training) and shares == sorted(shares) and shares[-1] > 80
    # A validation inside a training is no task of its own.
    within = [x for x in lines if x.startswith("measuring")]
    assert within and all(re.fullmatch(r"measuring batch \d+ of 20", x) for x in within)
    make_trainer(Machine(torch.device("cpu"), "fp32")).validate(Line(), batches(40), verbose=False)
    alone = [x for x in capsys.readouterr().out.splitlines() if x.startswith("measuring")]
    assert alone and all(
        re.fullmatch(r"measuring batch \d+ of 40, about .* left", x) for x in alone
    )


@pytest.mark.usefixtures("fast_clock")
def test_the_line_names_the_phase_that_is_not_the_detectors_training(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Phase(Line):
        phase = "crops"

    make_trainer(Machine(torch.device("cpu"), "fp32"), max_epochs=1).fit(Phase(), batches(40))
    lines = [x for x in capsys.readouterr().out.splitlines() if "% done" in x]
    assert lines and all(x.startswith("crops ") for x in lines)
    assert CropClassifier.phase == "crops"


def test_the_bar_on_a_terminal_shows_how_long_the_whole_training_will_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lightning_setup, "is_terminal", lambda: True)
    shown: list[Any] = []
    plain = Bar.get_metrics

    def spy(self: Bar, *args: Any) -> Any:
        shown.append(plain(self, *args).get("left"))
        return plain(self, *args)

    monkeypatch.setattr(Bar, "get_metrics", spy)
    trainer = make_trainer(Machine(torch.device("cpu"), "fp32"), max_epochs=2)
    trainer.fit(Line(), batches(30))
    assert any(text and re.fullmatch(r"\d+ s", text) for text in shown)
