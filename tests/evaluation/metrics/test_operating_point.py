"""Precision, recall and F1 at a threshold, and the threshold that is recommended."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from evaluation.metrics.coco import CocoEvaluation
from evaluation.metrics.operating_point import THRESHOLDS, OperatingPoints, Rates, score_threshold
from evaluation.metrics.results import ImageResult
from tests.image_results import CLASSES, random_results, result


def points(results: list[ImageResult]) -> OperatingPoints:
    return OperatingPoints(CocoEvaluation(results, CLASSES))


BOX, ELSEWHERE = [10, 10, 60, 60], [100, 100, 160, 160]


def test_the_rates_are_those_counted_by_hand() -> None:
    """Two aces: one found at 0.8, one not; a false one at 0.6, one more at 0.3."""
    third = [200, 200, 220, 220]
    image = result(
        true=[BOX, ELSEWHERE], found=[BOX, third, [300, 300, 320, 320]], scores=[0.8, 0.6, 0.3]
    )
    at_half = points([image]).overall(0.5)
    assert (at_half.precision, at_half.recall) == (0.5, 0.5)
    assert at_half.f1 == pytest.approx(0.5)
    assert points([image]).overall(0.7).precision == 1.0
    assert points([image]).overall(0.1).precision == pytest.approx(1 / 3)
    assert points([image]).overall(0.9).recall == 0.0


def test_a_score_of_exactly_the_threshold_counts() -> None:
    image = result(true=[BOX], found=[BOX], scores=[0.3])
    assert points([image]).overall(0.3).true_positives == 1
    assert points([image]).overall(0.31).true_positives == 0


def test_a_second_detection_of_an_object_is_false() -> None:
    image = result(true=[BOX], found=[BOX, [11, 10, 61, 60]], scores=[0.9, 0.8])
    assert points([image]).overall(0.5) == Rates(1, 1, 1)


def test_a_difficult_object_does_not_count() -> None:
    image = result(true=[BOX, ELSEWHERE], found=[BOX], scores=[0.9], difficult=[True, False])
    assert points([image]).overall(0.5) == Rates(0, 0, 1)


def test_a_wrong_class_is_a_false_positive_of_one_and_misses_an_object_of_the_other() -> None:
    image = result(true=[BOX], found=[BOX], scores=[0.9], true_labels=[1], labels=[2])
    classes = points([image]).classes(0.5)
    assert classes == {"ace": Rates(0, 0, 1), "king": Rates(0, 1, 0), "queen": Rates(0, 0, 0)}
    assert classes["king"].precision == 0.0 and math.isnan(classes["king"].recall)
    assert math.isnan(classes["queen"].f1)


@pytest.mark.parametrize("seed", range(3))
def test_the_classes_add_up_to_the_whole(seed: int) -> None:
    found = points(random_results(seed))
    for threshold in (0.05, 0.4, 0.8):
        classes, overall = found.classes(threshold), found.overall(threshold)
        for name in ("true_positives", "false_positives", "objects"):
            assert sum(getattr(r, name) for r in classes.values()) == getattr(overall, name)


@pytest.mark.parametrize("seed", range(3))
def test_no_threshold_has_a_higher_f1_than_the_recommended_one(seed: int) -> None:
    found = points(random_results(seed))
    recommended = found.recommended()
    assert recommended in THRESHOLDS
    best = found.overall(recommended).f1
    assert best == max(found.overall(threshold).f1 for threshold in THRESHOLDS)
    assert best > min(found.overall(threshold).f1 for threshold in THRESHOLDS)


def test_of_equally_good_thresholds_the_middle_one_is_recommended() -> None:
    """True positives above 0.8, false ones below 0.4: 0.41 to 0.8 are all perfect."""
    image = result(true=[BOX], found=[BOX, ELSEWHERE], scores=[0.801, 0.401])
    assert points([image]).recommended() == pytest.approx(0.6)


def test_a_detector_whose_scores_are_all_one_has_a_threshold_too() -> None:
    image = result(true=[BOX], found=[BOX], scores=[1.0])
    assert points([image]).recommended() == pytest.approx(0.52)


def test_a_perfect_detector_has_one_and_an_empty_one_zero() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        perfect, empty = points([result(true=[BOX], found=[BOX])]), points([result(true=[BOX])])
        rates = perfect.overall(perfect.recommended() or math.nan)
        assert (rates.precision, rates.recall, rates.f1) == (1, 1, 1)
        assert empty.recommended() is None
        rates = empty.overall(0.5)
        assert (rates.precision, rates.recall, rates.f1) == (0, 0, 0)


@pytest.mark.parametrize("results", [[], [result()]], ids=["no image", "no object"])
def test_nothing_to_measure_is_nan(results: list[ImageResult]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = points(results)
        assert found.recommended() is None
        rates = found.overall(0.5)
        assert np.isnan([rates.precision, rates.recall, rates.f1]).all()


@pytest.mark.parametrize(
    ("requested", "recommended", "expected"),
    [(0.7, 0.3, 0.7), (0.0, 0.3, 0.0), (None, 0.3, 0.3), (None, None, 0.5), (0.7, None, 0.7)],
)
def test_the_requested_threshold_comes_before_the_recommended_one(
    requested: float | None, recommended: float | None, expected: float
) -> None:
    assert score_threshold(requested, recommended) == expected
