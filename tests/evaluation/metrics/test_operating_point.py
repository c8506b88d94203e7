"""Precision, recall and F1 at a threshold, and the threshold that is recommended."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.metrics.coco import CocoEvaluation
from evaluation.metrics.operating_point import THRESHOLDS, OperatingPoints, Rates, score_threshold
from evaluation.metrics.results import ImageResult
from tests.image_results import CLASSES, random_results, result

pytestmark = pytest.mark.filterwarnings("error")
BOX, ELSEWHERE = [10, 10, 60, 60], [100, 100, 160, 160]
# Two aces: one detected at 0.8, one not; false positives at 0.6 and 0.3.
ACES = result(
    true=[BOX, ELSEWHERE],
    found=[BOX, [200, 200, 220, 220], [300, 300, 320, 320]],
    scores=[0.8, 0.6, 0.3],
)
TWICE = result(true=[BOX], found=[BOX, [11, 10, 61, 60]], scores=[0.9, 0.8])
DIFFICULT = result(true=[BOX, ELSEWHERE], found=[BOX], scores=[0.9], difficult=[True, False])


def points(results: list[ImageResult]) -> OperatingPoints:
    return OperatingPoints(CocoEvaluation(results, CLASSES))


@pytest.mark.parametrize(
    ("image", "threshold", "expected"),
    [
        (ACES, 0.9, (0, 0, 2)),
        (ACES, 0.7, (1, 0, 2)),
        (ACES, 0.5, (1, 1, 2)),
        (ACES, 0.3, (1, 2, 2)),  # the threshold itself counts
        (ACES, 0.31, (1, 1, 2)),
        (TWICE, 0.5, (1, 1, 1)),
        (DIFFICULT, 0.5, (0, 0, 1)),
    ],
)
def test_the_rates_are_those_counted_by_hand(
    image: ImageResult, threshold: float, expected: tuple[int, int, int]
) -> None:
    assert points([image]).overall(threshold) == Rates(*expected)


def test_rates_are_fractions() -> None:
    rates = Rates(true_positives=1, false_positives=2, objects=2)
    assert (rates.precision, rates.recall, rates.f1) == pytest.approx((1 / 3, 1 / 2, 2 / 5))


def test_a_wrong_class_is_a_false_positive_of_one_and_misses_an_object_of_the_other() -> None:
    image = result(true=[BOX], found=[BOX], scores=[0.9], true_labels=[1], labels=[2])
    classes = points([image]).classes(0.5)
    assert classes == {"ace": Rates(0, 0, 1), "king": Rates(0, 1, 0), "queen": Rates(0, 0, 0)}
    assert classes["king"].precision == 0.0 and math.isnan(classes["king"].recall)
    assert math.isnan(classes["queen"].f1)


@pytest.mark.parametrize("seed", range(3))
def test_the_classes_add_up_to_the_whole(seed: int) -> None:
    measured = points(random_results(seed))
    for threshold in (0.05, 0.4, 0.8):
        classes, overall = measured.classes(threshold), measured.overall(threshold)
        for name in ("true_positives", "false_positives", "objects"):
            assert sum(getattr(r, name) for r in classes.values()) == getattr(overall, name)


@pytest.mark.parametrize("seed", range(3))
def test_no_threshold_has_a_higher_f1_than_the_recommended_one(seed: int) -> None:
    measured = points(random_results(seed))
    f1 = {threshold: measured.overall(threshold).f1 for threshold in THRESHOLDS}
    recommended = measured.recommended()
    assert recommended is not None
    assert f1[recommended] == max(f1.values()) > min(f1.values())


@pytest.mark.parametrize(
    ("true", "scores", "expected"),
    [
        # A true positive above 0.8, a false one below 0.41: from 0.41 on all are perfect.
        ([BOX], [0.801, 0.401], 0.6),
        ([BOX, ELSEWHERE], [1.0, 1.0], 0.52),
    ],
)
def test_of_equally_good_thresholds_the_middle_one_is_recommended(
    true: list[list[int]], scores: list[float], expected: float
) -> None:
    image = result(true=true, found=[BOX, ELSEWHERE], scores=scores)
    assert points([image]).recommended() == pytest.approx(expected)


@pytest.mark.parametrize("results", [[], [result()]], ids=["no image", "no object"])
def test_nothing_to_measure_is_nan(results: list[ImageResult]) -> None:
    measured = points(results)
    assert measured.recommended() is None
    rates = measured.overall(0.5)
    assert np.isnan([rates.precision, rates.recall, rates.f1]).all()


@pytest.mark.parametrize(
    ("requested", "recommended", "expected"),
    [(0.7, 0.3, 0.7), (0.0, 0.3, 0.0), (None, 0.3, 0.3), (None, None, 0.5), (0.7, None, 0.7)],
)
def test_the_requested_threshold_comes_before_the_recommended_one(
    requested: float | None, recommended: float | None, expected: float
) -> None:
    assert score_threshold(requested, recommended) == expected
