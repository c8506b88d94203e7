"""All numbers of a detector in one value."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from evaluation.metrics.coco import CocoEvaluation
from evaluation.metrics.results import ImageResult
from tests.evaluation.pages import metrics_of, perfect
from tests.image_results import CLASSES, random_results


@pytest.mark.parametrize(
    ("results", "number", "confusion"),
    [
        (perfect(), 1, np.diag([4, 4, 4, 0])),
        ([r.with_detections(r.detections.above(2)) for r in perfect()], 0, None),
    ],
    ids=["perfect", "empty"],
)
def test_a_perfect_detector_scores_one_everywhere_and_an_empty_one_zero(
    results: list[ImageResult], number: int, confusion: np.ndarray | None
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = metrics_of(results)
    plain = metrics.as_plain()
    assert plain["coco"]["AP IoU=0.50:0.95 area=all maxDets=100"] == number
    assert plain["voc"] == {"AP50_2007": number, "AP50_2010": number}
    assert plain["mAP_of_detections_from_0.5"] == number
    assert (plain["mAP_interval"]["low"], plain["mAP_interval"]["high"]) == (number, number)
    for rates in (plain["at_threshold"], *plain["classes"].values()):
        assert (rates["precision"], rates["recall"], rates["F1"]) == (number, number, number)
    if confusion is None:
        assert plain["recommended_score_threshold"] is None
    else:
        np.testing.assert_array_equal(metrics.confusion, confusion)


def test_the_original_figure_leaves_out_detections_under_one_half() -> None:
    results = random_results(1)
    metrics = metrics_of(results)
    above = [r.with_detections(r.detections.above(0.5)) for r in results]
    assert metrics.original == CocoEvaluation(above, CLASSES).metrics
    assert metrics.original.map < metrics.coco.map


def test_a_higher_threshold_confuses_less_and_is_not_recommended_for_it() -> None:
    low, high = (metrics_of(random_results(1), threshold=value) for value in (0.2, 0.9))
    assert (low.threshold, high.threshold) == (0.2, 0.9)
    assert low.recommended == high.recommended
    assert high.confusion[:, :-1].sum() < low.confusion[:, :-1].sum()
