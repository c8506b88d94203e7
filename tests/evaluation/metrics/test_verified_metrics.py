"""The monitor's numbers are pycocotools', and a difference from our own is an error."""

from __future__ import annotations

import dataclasses

import pytest

from evaluation.metrics.coco import CocoEvaluation
from evaluation.metrics.pycocotools_reference import AUTOMATIC_IMAGES, choose_metrics
from tests.image_results import CLASSES, random_results, result
from utils.errors import UserError


def evaluation_off_by(difference: float) -> CocoEvaluation:
    """An evaluation whose own mAP is that much too high."""
    evaluation = CocoEvaluation(random_results(1), CLASSES)
    metrics = evaluation.metrics
    summary = (metrics.map + difference, *metrics.summary[1:])
    evaluation.metrics = dataclasses.replace(metrics, summary=summary)
    return evaluation


@pytest.mark.parametrize(
    ("difference", "line"), [(0, "equal"), (5e-10, "equal but for 5e-10")], ids=str
)
def test_numbers_that_pycocotools_confirms_are_its_own(
    difference: float, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = evaluation_off_by(difference)
    metrics = choose_metrics(evaluation)
    assert metrics is not evaluation.metrics
    assert metrics.map == pytest.approx(CocoEvaluation(random_results(1), CLASSES).metrics.map)
    assert capsys.readouterr() == (f"metrics   pycocotools: {line}\n", "")


@pytest.mark.parametrize("difference", [2e-9, -0.1, float("nan")])
def test_a_difference_is_an_error(difference: float) -> None:
    with pytest.raises(UserError, match="pycocotools: its metrics differ from this program's by"):
        choose_metrics(evaluation_off_by(difference))


@pytest.mark.parametrize(
    ("verify", "more_images", "verified"),
    [(None, 0, True), (None, 1, False), (True, 1, True), (False, 0, False)],
)
def test_up_to_a_thousand_images_are_verified_unless_requested_otherwise(
    verify: bool | None, more_images: int, verified: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = CocoEvaluation([result(i) for i in range(AUTOMATIC_IMAGES + more_images)], CLASSES)
    choose_metrics(evaluation, verify)
    line = "pycocotools: equal" if verified else "not verified with pycocotools"
    assert line in capsys.readouterr().out
