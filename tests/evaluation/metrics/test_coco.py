"""COCO's numbers: cases worked by hand, and what must not change them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.metrics.coco import (
    SUMMARY_ROWS,
    CocoEvaluation,
    CocoMetrics,
    show,
)
from evaluation.metrics.pycocotools_reference import greatest_difference
from evaluation.metrics.results import ImageResult
from tests.image_results import (
    CLASSES,
    boxes_of,
    detected_perfectly,
    random_results,
    result,
    without_detections,
)

EASY, HARD = [10, 10, 60, 60], [100, 100, 180, 170]
few = settings(max_examples=15, deadline=None)


def coco_metrics(results: list[ImageResult], names: tuple[str, ...]) -> CocoMetrics:
    return CocoEvaluation(results, names).metrics


def numbers(metrics: CocoMetrics) -> list[float]:
    return [*metrics.summary, *(x for values in metrics.class_ap.values() for x in values)]


@few
@given(st.integers(0, 10**6))
def test_a_perfect_detector_has_one(seed: int) -> None:
    metrics = coco_metrics(detected_perfectly(random_results(seed)), CLASSES)
    assert not math.isnan(metrics.map)
    measured = [x for x in numbers(metrics) if not math.isnan(x)]
    # AR with one detection per image cannot reach 1 where an image has more.
    measured.remove(metrics.summary[6])
    assert measured == pytest.approx([1.0] * len(measured), abs=1e-12)


def test_a_detector_that_finds_nothing_has_zero() -> None:
    metrics = coco_metrics(without_detections(random_results(1)), CLASSES)
    assert metrics.map == metrics.map_50 == metrics.map_75 == 0.0
    assert set(metrics.class_ap.values()) == {(0.0, 0.0, 0.0)}


@pytest.mark.parametrize(
    "results", [[], [result(found=[[0, 0, 9, 9]]), result(1)]], ids=["no image", "no object"]
)
def test_without_objects_everything_is_absent_and_shown_as_such(results: list[ImageResult]) -> None:
    metrics = coco_metrics(results, CLASSES)
    assert len(metrics.summary) == 12 and {show(x) for x in numbers(metrics)} == {"n/a"}
    assert list(metrics.class_ap) == list(CLASSES) and metrics.objects == dict.fromkeys(CLASSES, 0)


def test_a_size_without_objects_is_absent() -> None:
    """One object of 50 times 50 pixels: of medium size."""
    metrics = coco_metrics([result(0, [[0, 0, 50, 50]], [[0, 0, 50, 50]])], ("ace",))
    measured = {row for row, x in zip(SUMMARY_ROWS, metrics.summary, strict=True) if x == x}
    assert measured == {row for row in SUMMARY_ROWS if row[2] in ("all", "medium")}


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


def test_a_difficult_object_leaves_a_detection_elsewhere_false() -> None:
    detections = [[300, 300, 350, 350], EASY]
    image = result(0, [EASY, HARD], detections, [0.9, 0.8], difficult=[False, True])
    assert coco_metrics([image], ("ace",)).map == pytest.approx(0.5, abs=0.01)


def test_a_class_with_difficult_objects_only_is_absent() -> None:
    labels = {"true_labels": [1, 2], "labels": [1, 2]}
    image = result(0, [EASY, HARD], [EASY, HARD], difficult=[False, True], **labels)
    metrics = coco_metrics([image], CLASSES)
    assert metrics.map == pytest.approx(1.0) and math.isnan(metrics.class_ap["king"][0])


@few
@given(st.permutations(range(10)), st.integers(0, 4))
def test_neither_the_order_of_images_nor_a_repeated_one_matters(
    order: list[int], repeated: int
) -> None:
    """A loader that pads its last batch by repeating images does no harm."""
    results = random_results(3)
    changed = coco_metrics([results[i] for i in (*order, *order[:repeated])], CLASSES)
    expected = coco_metrics(results, CLASSES)
    assert greatest_difference(changed, expected) == 0 and changed.objects == expected.objects


FALSE = [[200 + i, 0, 205 + i, 5] for i in range(150)]


@pytest.mark.parametrize(("higher", "expected"), [(99, 0.01), (100, 0.0)])
def test_only_the_100_highest_scores_of_an_image_count(higher: int, expected: float) -> None:
    scores = [0.9 - 0.001 * i for i in range(higher)] + [0.1] * (150 - higher)
    image = result(0, [EASY], [*FALSE, EASY], [*scores, 0.5])
    assert coco_metrics([image], ("ace",)).map == pytest.approx(expected, abs=1e-3)


def test_the_100_are_counted_for_each_class() -> None:
    image = result(0, [EASY], [*FALSE, EASY], [*[0.9] * 150, 0.5], labels=[*[2] * 150, 1])
    assert coco_metrics([image], ("ace", "king")).map == pytest.approx(1.0)


def test_the_matched_object_does_not_depend_on_area_ranges() -> None:
    """In the range of medium areas COCO's rule matches the medium object."""
    small, medium = [0, 0, 31, 31], [0, 0, 33, 33]
    evaluation = CocoEvaluation([result(true=[small, medium], found=[small])], CLASSES)
    assert evaluation.matched_objects[0].tolist() == [0]


def test_the_mean_of_a_precision_curve_is_the_class_ap50() -> None:
    evaluation = CocoEvaluation(random_results(2), (*CLASSES, "absent"))
    for name, curve in evaluation.precision_curves().items():
        assert curve.shape == (101,)
        np.testing.assert_allclose(curve.mean(), evaluation.metrics.class_ap[name][1], atol=1e-12)
    assert np.isnan(evaluation.precision_curves()["absent"]).all()
