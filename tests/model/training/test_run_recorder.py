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
            current_epoch=0,
            max_epochs=epochs,
            callback_metrics={},
            global_step=30,
        )
        self.module.trainer, self.module.planned_steps = self.trainer, 80
        self.recorder = RunRecorder(folder, DESCRIPTION)

    def start(self, epoch: int = 0) -> None:
        self.trainer.current_epoch = epoch
        self.recorder.on_train_start(self.trainer, self.module)

    def run_epoch(
        self, mean_ap: float | None, batches: tuple[tuple[int, float], ...] = ((4, 1.0),)
    ) -> None:
        """mean_ap: None where no validation ran. batches: number of images and loss of each."""
        trainer, module = self.trainer, self.module
        with torch.no_grad():
            module.detector.weight.fill_(trainer.current_epoch + 1)
        self.recorder.on_train_epoch_start(trainer, module)
        for size, loss in batches:
            trainer.callback_metrics |= values(
                loss=loss,
                loss_classification=0.75 * loss,
                loss_bbox_regression=0.25 * loss,
                learning_rate=0.001,
            )
            batch = ([torch.zeros(1)] * size, [])
            self.recorder.on_train_batch_end(trainer, module, None, batch, 0)
        if mean_ap is not None:
            self.recorder.on_validation_start(trainer, module)
            module.metrics = CocoEvaluation([], ["ace"]).metrics
            trainer.callback_metrics |= values(
                val_loss=0.5, mAP=mean_ap, mAP50=mean_ap, mAP75=mean_ap
            )
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
    stage = Stage(tmp_path)
    stage.start()
    return stage


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
    kept = []
    for mean_ap in (0.2, 0.5, 0.4, 0.6):
        stage.run_epoch(mean_ap)
        kept.append(stage.best()["epoch"])
    assert kept == [1, 2, 2, 4]
    assert [line.endswith("best so far") for line in lines_of(capsys)] == [True, True, False, True]


def test_best_pth_holds_the_averaged_weights_and_metrics_of_its_epoch(stage: Stage) -> None:
    for mean_ap in (0.2, 0.5, 0.4):
        stage.run_epoch(mean_ap)
    best = stage.best()
    assert best["weights"]["weight"].item() == 2
    assert best["metrics"] == pytest.approx(
        {"val_loss": 0.5, "mAP": 0.5, "mAP50": 0.5, "mAP75": 0.5}
    )
    assert best["detector"] == DESCRIPTION.as_plain()


def test_without_a_map_the_last_epoch_is_the_best_and_shown_as_not_available(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        stage.run_epoch(NAN)
    assert stage.best()["epoch"] == 3
    assert math.isnan(stage.best()["metrics"]["mAP"])
    line = lines_of(capsys)[-1]
    assert "mAP n/a" in line and "nan" not in line


def test_a_first_map_replaces_one_that_could_not_be_measured(stage: Stage) -> None:
    stage.run_epoch(NAN)
    stage.run_epoch(0.1)
    stage.run_epoch(0.05)
    assert stage.best()["epoch"] == 2


def test_an_epoch_without_validation_has_a_row_without_map_and_leaves_best_alone(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    for mean_ap in (None, 0.3, None):
        stage.run_epoch(mean_ap)
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
    stage.run_epoch(0.3)
    stage.run_epoch(None)
    assert [float(row["images_per_second"]) for row in stage.rows()] == [2.0, 0.5]


def test_the_line_of_an_epoch_shows_its_losses_and_metrics(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.run_epoch(0.25)
    (line,) = lines_of(capsys)
    for part in ("1/4", "loss 1.000 (class 0.750, box 0.250)", "mAP 0.250", "lr 1.0e-03"):
        assert part in line


def test_a_resumed_run_keeps_the_rows_up_to_where_it_resumes(tmp_path: Path) -> None:
    before = Stage(tmp_path)
    before.start()
    for mean_ap in (0.1, 0.3, 0.2):
        before.run_epoch(mean_ap)
    resumed = Stage(tmp_path)
    resumed.recorder.load_state_dict(before.recorder.state_dict())
    resumed.start(epoch=2)
    resumed.run_epoch(0.25)
    assert [row["epoch"] for row in resumed.rows()] == ["1", "2", "3"]
    assert [float(row["mAP"]) for row in resumed.rows()] == pytest.approx([0.1, 0.3, 0.25])


def test_a_resumed_run_knows_the_best_map_so_far(tmp_path: Path) -> None:
    before = Stage(tmp_path)
    before.start()
    before.run_epoch(0.3)
    state = before.recorder.state_dict()
    resumed = Stage(tmp_path)
    resumed.recorder.load_state_dict(state)
    resumed.start(epoch=1)
    resumed.run_epoch(0.2)
    assert resumed.best()["epoch"] == 1
    resumed.run_epoch(0.4)
    assert resumed.best()["epoch"] == 3


def test_a_resumed_run_whose_best_pth_is_gone_writes_a_new_one(tmp_path: Path) -> None:
    before = Stage(tmp_path)
    before.start()
    before.run_epoch(0.3)
    (tmp_path / "best.pth").unlink()
    resumed = Stage(tmp_path)
    resumed.recorder.load_state_dict(before.recorder.state_dict())
    resumed.start(epoch=1)
    resumed.run_epoch(0.2)
    assert resumed.best()["epoch"] == 2


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


def test_the_best_checkpoint_holds_the_threshold_and_the_training_of_its_epoch(
    stage: Stage,
) -> None:
    stage.module.score_threshold = 0.37
    stage.run_epoch(0.2, batches=((4, 1.0), (3, 1.0)))
    stage.module.score_threshold = 0.9
    stage.run_epoch(0.1)
    assert stage.best()["score_threshold"] == 0.37
    assert stage.best()["training"] == {
        "learning_rate": 1e-3,
        "steps": 30,
        "planned_steps": 80,
        "warmup_steps": 100,
        "images": 0,
        "loss": 1.0,
    }
