"""The callback that explains a low mAP while a training goes on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torchvision.models.detection import RetinaNet

from data.dataset import DataSplits
from evaluation.metrics.coco import CocoEvaluation
from evaluation.metrics.results import ImageResult
from model.lightning_trainer import DetectorModule
from tests.evaluation.diagnosis.planted import (
    NAMES,
    build,
    labelled,
    nothing_detected,
    results_of,
    splits_of,
)
from training import low_map
from training.low_map import LowMapDiagnosis


class Run:
    """A trainer and a module with the results of a validation, moved through epochs by hand."""

    def __init__(self, model: RetinaNet, results: list[ImageResult], splits: DataSplits) -> None:
        self.module = DetectorModule(model, NAMES)
        self.module.evaluation = CocoEvaluation(results, NAMES)
        self.module.metrics = self.module.evaluation.metrics
        self.trainer: Any = SimpleNamespace(
            sanity_checking=False,
            current_epoch=1,
            is_global_zero=True,
            global_step=20,
            callbacks=[],
            callback_metrics={"loss": torch.tensor(0.7)},
        )
        self.module.trainer, self.module.planned_steps = self.trainer, 400
        self.callback = LowMapDiagnosis(splits, pretrained=False)

    def validate(self, epoch: int = 2) -> list[str]:
        """The lines that the callback prints."""
        self.trainer.current_epoch = epoch - 1
        lines: list[str] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(low_map, "say", lambda label, text: lines.append(text))
            self.callback.on_validation_end(self.trainer, self.module)
        return lines


@pytest.fixture(scope="module")
def model() -> RetinaNet:
    return build()


@pytest.fixture
def bad_run(model: RetinaNet) -> Run:
    splits = splits_of(labelled(20))
    return Run(model, nothing_detected(splits), splits)


def test_a_low_map_is_explained_once_in_a_run_from_the_second_epoch_on(bad_run: Run) -> None:
    assert bad_run.validate(epoch=1) == []
    lines = bad_run.validate(epoch=2)
    assert lines[0].startswith("why mAP is low") and lines[1].startswith("1. ")
    assert bad_run.validate(epoch=3) == []


@pytest.mark.parametrize(
    ("requested", "recommended", "shown"),
    [(None, None, "0.50"), (None, 0.07, "0.07"), (0.3, 0.07, "0.30")],
)
def test_the_threshold_is_the_requested_one_else_that_of_the_validation(
    bad_run: Run, requested: float | None, recommended: float | None, shown: str
) -> None:
    bad_run.module.score_threshold = recommended
    bad_run.callback.requested_threshold = requested
    assert f"from the threshold in use, {shown}" in "\n".join(bad_run.validate())


def test_a_resumed_run_does_not_explain_again(bad_run: Run, model: RetinaNet) -> None:
    bad_run.validate()
    resumed = Run(model, bad_run.module.results, bad_run.callback.splits)
    resumed.callback.load_state_dict(bad_run.callback.state_dict())
    assert resumed.validate(epoch=3) == []


@pytest.mark.parametrize("change", [{"sanity_checking": True}, {"is_global_zero": False}, {}])
def test_a_sanity_check_other_processes_and_a_good_map_print_nothing(
    bad_run: Run, model: RetinaNet, change: dict[str, bool]
) -> None:
    splits = bad_run.callback.splits
    run = bad_run if change else Run(model, results_of(splits), splits)
    vars(run.trainer).update(change)
    assert run.validate() == []


def test_a_map_that_cannot_be_measured_is_explained(model: RetinaNet) -> None:
    splits = splits_of(labelled(4), [])
    assert "no objects in the validation images" in Run(model, [], splits).validate()[1]


def test_a_failing_diagnosis_is_one_line_and_training_goes_on(
    bad_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of memory\nwith details")

    monkeypatch.setattr(low_map, "gather_facts", fail)
    (line,) = bad_run.validate()
    assert "failed: RuntimeError, out of memory" in line and "\n" not in line


def test_the_diagnosis_leaves_the_training_as_it_was(bad_run: Run) -> None:
    module = bad_run.module.train()
    random = torch.get_rng_state()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    try:
        assert bad_run.validate()
        assert torch.equal(torch.get_rng_state(), random)
        assert all(m.training for m in module.model.modules())
        assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    finally:
        module.eval()
