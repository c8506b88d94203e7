"""What a run writes each epoch: a line, a row of metrics.csv, best.pth when mAP rose."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from evaluation.metrics.coco import CocoEvaluation
from model.checkpoint import DetectorDescription
from model.lightning_trainer import DetectorModule
from model.training.run_recorder import RunRecorder

DESCRIPTION = DetectorDescription("efficientnet-b0", ("ace",))
NAN = float("nan")


class Stage:
    """A trainer and a module of one weight, moved through epochs by hand."""

    def __init__(self, folder: Path, epochs: int = 4) -> None:
        self.folder = folder
        self.module = DetectorModule(nn.Linear(1, 1, bias=False), ("ace",))  # type: ignore[arg-type]
        self.trainer: Any = SimpleNamespace(
            current_epoch=0, max_epochs=epochs, callback_metrics={}, global_step=30
        )
        self.module.trainer, self.module.planned_steps = self.trainer, 80
        self.recorder = RunRecorder(folder, DESCRIPTION)

    def start(self, epoch: int = 0) -> Stage:
        self.trainer.current_epoch = epoch
        self.recorder.on_train_start(self.trainer, self.module)
        return self

    def resumed(self, epoch: int) -> Stage:
        """Another process goes on in the same folder."""
        stage = Stage(self.folder)
        stage.recorder.load_state_dict(self.recorder.state_dict())
        return stage.start(epoch)

    def run_epochs(self, *mean_aps: float | None) -> Stage:
        for mean_ap in mean_aps:
            self.run_epoch(mean_ap)
        return self

    def run_epoch(
        self, mean_ap: float | None, batches: tuple[tuple[int, float], ...] = ((4, 1.0),)
    ) -> None:
        """mean_ap: None where no validation ran. batches: number of images and loss of each."""
        trainer, module = self.trainer, self.module
        with torch.no_grad():
            module.detector.weight.fill_(trainer.current_epoch + 1)
        self.recorder.on_train_epoch_start(trainer, module)
        for size, loss in batches:
            parts = {"classification": 0.75 * loss, "bbox_regression": 0.25 * loss}
            losses = {f"loss_{name}": part for name, part in parts.items()}
            trainer.callback_metrics |= values(loss=loss, **losses, learning_rate=0.001)
            batch = ([torch.zeros(1)] * size, [])
            self.recorder.on_train_batch_end(trainer, module, None, batch, 0)
        if mean_ap is not None:
            self.recorder.on_validation_start(trainer, module)
            module.metrics = CocoEvaluation([], ["ace"]).metrics
            of_map = {name: mean_ap for name in ("mAP", "mAP50", "mAP75")}
            trainer.callback_metrics |= values(val_loss=0.5, **of_map)
        self.recorder.on_train_epoch_end(trainer, module)
        trainer.current_epoch += 1

    def rows(self) -> list[dict[str, str]]:
        with open(self.folder / "metrics.csv", newline="") as file:
            return list(csv.DictReader(file))

    def best(self) -> dict[str, Any]:
        return torch.load(self.folder / "best.pth", weights_only=True)


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def values(**numbers: float) -> dict[str, Tensor]:
    return {name: torch.tensor(number) for name, number in numbers.items()}


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path).start()


def test_every_epoch_adds_a_row_with_the_mean_loss_of_its_images(stage: Stage) -> None:
    stage.run_epoch(0.1, batches=((4, 1.0), (4, 2.0), (1, 6.0)))
    stage.run_epoch(0.2, batches=((2, 0.5),))
    first, second = stage.rows()
    assert [first["epoch"], second["epoch"]] == ["1", "2"]
    assert float(first["loss"]) == pytest.approx((4 * 1 + 4 * 2 + 6) / 9)
    assert float(first["loss_classification"]) == pytest.approx(0.75 * 2)
    assert float(first["loss_bbox_regression"]) == pytest.approx(0.25 * 2)
    assert float(second["loss"]) == pytest.approx(0.5), "an epoch starts from zero"
    assert [float(row["mAP"]) for row in (first, second)] == pytest.approx([0.1, 0.2])
    for name in ("val_loss", "mAP50", "mAP75", "learning_rate", "images_per_second"):
        assert float(first[name]) > 0


def test_best_pth_changes_only_when_the_map_rose(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = [stage.run_epochs(mean_ap).best()["epoch"] for mean_ap in (0.2, 0.5, 0.4, 0.6)]
    assert kept == [1, 2, 2, 4]
    assert [line.endswith("best so far") for line in lines_of(capsys)] == [True, True, False, True]


def test_best_pth_holds_the_averaged_weights_and_all_facts_of_its_epoch(stage: Stage) -> None:
    for mean_ap, threshold in ((0.2, 0.1), (0.5, 0.37), (0.4, 0.9)):
        stage.module.score_threshold = threshold
        stage.run_epoch(mean_ap, batches=((4, 1.0), (3, 1.0)))
    best = stage.best()
    assert best["weights"]["weight"].item() == 2
    assert best["metrics"] == {"val_loss": 0.5, "mAP": 0.5, "mAP50": 0.5, "mAP75": 0.5}
    assert best["detector"] == DESCRIPTION.as_plain()
    assert best["score_threshold"] == 0.37
    assert best["training"] == {
        "learning_rate": 1e-3,
        "steps": 30,
        "planned_steps": 80,
        "warmup_steps": 100,
        "images": 0,
        "loss": 1.0,
    }


def test_without_a_map_the_last_epoch_is_the_best_until_there_is_one(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    best = stage.run_epochs(NAN, NAN, NAN).best()
    assert best["epoch"] == 3 and math.isnan(best["metrics"]["mAP"])
    line = lines_of(capsys)[-1]
    assert "mAP n/a" in line and "nan" not in line
    assert stage.run_epochs(0.1, 0.05).best()["epoch"] == 4


def test_an_epoch_without_validation_has_a_row_without_map_and_leaves_best_alone(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.run_epochs(None, 0.3, None)
    assert [row["mAP"] for row in stage.rows()][::2] == ["", ""]
    assert stage.best()["epoch"] == 2
    assert ["mAP" in line for line in lines_of(capsys)] == [False, True, False]


def test_the_speed_of_an_epoch_is_that_of_its_training(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 2.0, 100.0, 108.0])
    monkeypatch.setattr(
        "model.training.run_recorder.time", SimpleNamespace(monotonic=lambda: next(clock))
    )
    stage.run_epochs(0.3, None)
    assert [float(row["images_per_second"]) for row in stage.rows()] == [2.0, 0.5]


def test_the_line_of_an_epoch_shows_its_losses_and_metrics(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.run_epoch(0.25)
    (line,) = lines_of(capsys)
    for part in ("1/4", "loss 1.000 (class 0.750, box 0.250)", "mAP 0.250", "lr 1.0e-03"):
        assert part in line


def test_a_resumed_run_keeps_the_rows_up_to_where_it_resumes(stage: Stage) -> None:
    rows = stage.run_epochs(0.1, 0.3, 0.2).resumed(epoch=2).run_epochs(0.25).rows()
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [float(row["mAP"]) for row in rows] == pytest.approx([0.1, 0.3, 0.25])


def test_a_resumed_run_knows_the_best_map_so_far_unless_best_pth_is_gone(stage: Stage) -> None:
    resumed = stage.run_epochs(0.3).resumed(epoch=1)
    assert resumed.run_epochs(0.2).best()["epoch"] == 1
    assert resumed.run_epochs(0.4).best()["epoch"] == 3
    (stage.folder / "best.pth").unlink()
    assert resumed.resumed(epoch=3).run_epochs(0.1).best()["epoch"] == 4


def test_the_first_epoch_after_a_resume_starts_from_zero(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Lightning calls on_train_start, but no on_train_epoch_start, after a resume.
    monkeypatch.setattr(stage.recorder, "on_train_epoch_start", lambda *_: None)
    stage.run_epoch(0.1, batches=((7, 100.0),))
    stage.start(epoch=1)
    stage.run_epoch(0.1)
    assert float(stage.rows()[1]["loss"]) == pytest.approx(1.0)


def test_the_state_of_the_recorder_is_plain(stage: Stage) -> None:
    stage.run_epoch(0.3)
    state = stage.recorder.state_dict()
    torch.save(state, stage.folder / "state.pth")
    assert torch.load(stage.folder / "state.pth", weights_only=True) == state
