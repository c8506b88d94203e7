"""The monitor's numbers are pycocotools', and a difference from our own is an error."""

from __future__ import annotations

import dataclasses

import pytest

from evaluation import verify_metrics
from evaluation.metrics.coco import CocoEvaluation
from evaluation.verify_metrics import AUTOMATIC_IMAGES, verified_metrics
from tests.evaluation.metrics.test_coco import CLASSES, random_results, result
from utils.errors import UserError


@pytest.fixture
def evaluation() -> CocoEvaluation:
    return CocoEvaluation(random_results(1), CLASSES)


def plant(monkeypatch: pytest.MonkeyPatch, difference: float) -> None:
    measure = verify_metrics.pycocotools_metrics

    def changed(*arguments: object) -> object:
        metrics = measure(*arguments)  # type: ignore[arg-type]
        mean_ap, *others = metrics.summary
        return dataclasses.replace(metrics, summary=(mean_ap + difference, *others))

    monkeypatch.setattr(verify_metrics, "pycocotools_metrics", changed)


def test_numbers_that_pycocotools_confirms_are_its_own(
    evaluation: CocoEvaluation, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = verified_metrics(evaluation)
    assert metrics.summary == pytest.approx(evaluation.metrics.summary, abs=1e-9, nan_ok=True)
    assert metrics is not evaluation.metrics
    assert "pycocotools: equal" in capsys.readouterr().out


def test_a_difference_within_rounding_is_printed(
    evaluation: CocoEvaluation,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plant(monkeypatch, 5e-10)
    assert verified_metrics(evaluation).map == pytest.approx(evaluation.metrics.map + 5e-10, abs=0)
    assert "pycocotools: equal but for 5e-10" in capsys.readouterr().out


@pytest.mark.parametrize("difference", [2e-9, -0.1, float("nan")])
def test_a_difference_is_an_error(
    evaluation: CocoEvaluation, monkeypatch: pytest.MonkeyPatch, difference: float
) -> None:
    plant(monkeypatch, difference)
    with pytest.raises(UserError, match="--verify-metrics False"):
        verified_metrics(evaluation)


@pytest.mark.parametrize(
    ("requested", "more_images", "verified"),
    [(None, 0, True), (None, 1, False), (True, 1, True), (False, 0, False)],
)
def test_up_to_a_thousand_images_are_verified_unless_requested_otherwise(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    requested: bool | None,
    more_images: int,
    verified: bool,
) -> None:
    evaluation = CocoEvaluation([result(i) for i in range(AUTOMATIC_IMAGES + more_images)], CLASSES)
    verified_metrics(evaluation, requested)
    line = "pycocotools: equal" if verified else "not verified with pycocotools"
    assert line in capsys.readouterr().out
