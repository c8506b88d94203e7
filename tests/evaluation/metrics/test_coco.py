"""COCO's numbers: cases worked by hand, and what must not change them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.metrics.coco import CocoEvaluation, CocoMetrics, show
from evaluation.metrics.pycocotools_reference import greatest_difference
from evaluation.metrics.results import ImageResult
from tests.image_results import CLASSES, boxes_of, random_results, result

EASY, HARD = [10, 10, 60, 60], [100, 100, 180, 170]


def coco_metrics(results: list[ImageResult], names: tuple[str, ...]) -> CocoMetrics:
    return CocoEvaluation(results, names).metrics


@pytest.mark.parametrize(
    "results", [[], [result(found=[[0, 0, 9, 9]]), result(1)]], ids=["no image", "no object"]
)
def test_without_objects_everything_is_absent_and_shown_as_such(results: list[ImageResult]) -> None:
    metrics = coco_metrics(results, CLASSES)
    numbers = [*metrics.summary, *(x for values in metrics.class_ap.values() for x in values)]
    assert len(metrics.summary) == 12 and {show(x) for x in numbers} == {"n/a"}
    assert list(metrics.class_ap) == list(CLASSES) and metrics.objects == dict.fromkeys(CLASSES, 0)


def test_a_metric_is_shown_as_a_fraction() -> None:
    assert (show(0.4123), show(1.0), show(0.0)) == ("0.412", "1.000", "0.000")


def test_a_class_without_objects_is_absent_and_left_out_of_the_mean() -> None:
    """Of two classes one is detected and one is missed; a third has only a false positive."""
    images = [result(0, [EASY, HARD], [EASY, EASY], true_labels=[1, 2], labels=[1, 3])]
    metrics = coco_metrics(images, CLASSES)
    assert metrics.class_ap["ace"] == pytest.approx((1.0, 1.0, 1.0))
    assert metrics.class_ap["king"] == (0.0, 0.0, 0.0)
    assert all(math.isnan(x) for x in metrics.class_ap["queen"])
    assert metrics.map == pytest.approx(0.5)
    assert metrics.objects == {"ace": 1, "king": 1, "queen": 0}


@pytest.mark.parametrize("found", [[EASY], [EASY, HARD], [HARD, EASY]])
@pytest.mark.parametrize("size", ["small", "large"])
def test_a_difficult_object_is_neither_rewarded_nor_missed(found: Any, size: str) -> None:
    factor = 0.2 if size == "small" else 3
    objects, seen = boxes_of([EASY, HARD]) * factor, boxes_of(found) * factor
    scores = [0.9, 0.8][: len(found)]
    metrics = coco_metrics([result(0, objects, seen, scores, difficult=[False, True])], ("ace",))
    assert (metrics.map, metrics.summary[8]) == pytest.approx((1.0, 1.0))
    assert metrics.objects == {"ace": 1}


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(10)), st.integers(0, 4))
def test_neither_the_order_of_images_nor_a_repeated_one_matters(
    order: list[int], repeated: int
) -> None:
    """A loader that pads its last batch by repeating images does no harm."""
    results = random_results(3)
    changed = coco_metrics([results[i] for i in (*order, *order[:repeated])], CLASSES)
    expected = coco_metrics(results, CLASSES)
    assert greatest_difference(changed, expected) == 0 and changed.objects == expected.objects
