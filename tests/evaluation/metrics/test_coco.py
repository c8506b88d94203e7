"""COCO's numbers: those of pycocotools by hand, and what must not change them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors

from evaluation.metrics.coco import (
    FALSE_POSITIVE,
    IGNORED,
    SUMMARY_ROWS,
    CocoEvaluation,
    CocoMetrics,
    show,
)
from evaluation.metrics.results import Detections, GroundTruth, ImageResult

CLASSES = ("ace", "king", "queen")
few = settings(max_examples=15, deadline=None)


def boxes_of(rows: Any) -> np.ndarray:
    return np.asarray(rows, dtype=np.float32).reshape(-1, 4)


def result(
    image_id: int = 0,
    true: Any = (),
    found: Any = (),
    scores: Any = None,
    *,
    true_labels: Any = None,
    labels: Any = None,
    difficult: Any = None,
) -> ImageResult:
    """One image; by default everything is of class 1, sure and not difficult."""
    true_boxes, boxes = boxes_of(true), boxes_of(found)
    n, m = len(true_boxes), len(boxes)
    truth = GroundTruth(
        true_boxes,
        np.asarray([1] * n if true_labels is None else true_labels, dtype=np.int64),
        np.asarray([False] * n if difficult is None else difficult, dtype=bool),
    )
    detections = Detections(
        boxes,
        np.asarray([0.9] * m if scores is None else scores, dtype=np.float32),
        np.asarray([1] * m if labels is None else labels, dtype=np.int64),
    )
    return ImageResult(image_id, truth, detections)


def with_truth(image: ImageResult, **changes: np.ndarray) -> ImageResult:
    """The same image with other fields of its ground truth."""
    truth = dataclasses.replace(image.ground_truth, **changes)
    return dataclasses.replace(image, ground_truth=truth)


def some_difficult(results: list[ImageResult], share: float, seed: int = 0) -> list[ImageResult]:
    random = np.random.default_rng(seed)
    return [with_truth(r, difficult=random.random(len(r.ground_truth)) < share) for r in results]


def detected_perfectly(results: list[ImageResult]) -> list[ImageResult]:
    return [
        r.with_detections(
            Detections(
                r.ground_truth.boxes,
                np.full(len(r.ground_truth), 0.8, np.float32),
                r.ground_truth.labels,
            )
        )
        for r in results
    ]


def without_detections(results: list[ImageResult]) -> list[ImageResult]:
    return [r.with_detections(r.detections.above(2)) for r in results]


def random_boxes(random: np.random.Generator, count: int) -> np.ndarray:
    corner, size = random.uniform(0, 200, (count, 2)), random.uniform(5, 150, (count, 2))
    return np.concatenate([corner, corner + size], axis=1).astype(np.float32)


def random_results(seed: int, classes: int = 3) -> list[ImageResult]:
    """Ten images; detections lie near objects or anywhere; some images lack one or the other."""
    random = np.random.default_rng(seed)
    results = []
    for number in range(10):
        n = 0 if number in (2, 5) else int(random.integers(1, 9))
        true, labels = random_boxes(random, n), random.integers(1, classes + 1, n)
        near = (true + random.normal(0, 4, true.shape)).astype(np.float32)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        stray = random_boxes(random, int(random.integers(0, 6)))
        found = np.concatenate([near, stray])
        found_labels = np.concatenate([labels, random.integers(1, classes + 1, len(stray))])
        keep = random.random(len(found)) < (0 if number in (3, 5) else 0.8)
        results.append(
            result(
                7 + 3 * number,
                true,
                found[keep],
                random.random(len(found))[keep],
                true_labels=labels,
                labels=found_labels[keep],
            )
        )
    return results


def coco_metrics(results: list[ImageResult], names: tuple[str, ...]) -> CocoMetrics:
    return CocoEvaluation(results, names).metrics


def numbers(metrics: CocoMetrics) -> list[float]:
    return [*metrics.summary, *(x for values in metrics.class_ap.values() for x in values)]


def assert_same(first: CocoMetrics, second: CocoMetrics) -> None:
    np.testing.assert_array_equal(numbers(first), numbers(second))
    assert first.objects == second.objects


@few
@given(st.integers(0, 10**6))
def test_a_perfect_detector_has_one(seed: int) -> None:
    metrics = coco_metrics(detected_perfectly(random_results(seed)), CLASSES)
    assert not math.isnan(metrics.map)
    measured = [x for x in numbers(metrics) if not math.isnan(x)]
    # AR with one detection an image cannot reach 1 where an image has more.
    measured.remove(metrics.summary[6])
    assert measured == pytest.approx([1.0] * len(measured), abs=1e-12)


def test_a_detector_that_finds_nothing_has_zero() -> None:
    metrics = coco_metrics(without_detections(random_results(1)), CLASSES)
    assert metrics.map == metrics.map_50 == metrics.map_75 == 0.0
    assert set(metrics.class_ap.values()) == {(0.0, 0.0, 0.0)}


def test_without_images_everything_is_absent() -> None:
    metrics = coco_metrics([], CLASSES)
    assert len(metrics.summary) == 12 and all(math.isnan(x) for x in numbers(metrics))
    assert metrics.objects == dict.fromkeys(CLASSES, 0)


def test_without_objects_everything_is_absent_and_shown_as_such() -> None:
    metrics = coco_metrics([result(found=[[0, 0, 9, 9]]), result(1)], CLASSES)
    assert {show(x) for x in numbers(metrics)} == {"n/a"}
    assert list(metrics.class_ap) == list(CLASSES)


def test_a_size_without_objects_is_absent() -> None:
    """One object of 50 times 50 pixels: of medium size."""
    metrics = coco_metrics([result(0, [[0, 0, 50, 50]], [[0, 0, 50, 50]])], ("ace",))
    measured = {row for row, x in zip(SUMMARY_ROWS, metrics.summary, strict=True) if x == x}
    assert measured == {row for row in SUMMARY_ROWS if row[2] in ("all", "medium")}


def test_a_metric_is_shown_as_a_fraction() -> None:
    assert (show(0.4123), show(1.0), show(0.0)) == ("0.412", "1.000", "0.000")


def test_a_class_without_objects_is_absent_and_left_out_of_the_mean() -> None:
    """Of two classes one is found and one is missed; a third has only false detections."""
    box = [10, 10, 60, 60]
    metrics = coco_metrics(
        [result(0, [box, [100, 100, 160, 160]], [box, box], true_labels=[1, 2], labels=[1, 3])],
        CLASSES,
    )
    assert metrics.class_ap["ace"] == pytest.approx((1.0, 1.0, 1.0))
    assert metrics.class_ap["king"] == (0.0, 0.0, 0.0)
    assert all(math.isnan(x) for x in metrics.class_ap["queen"])
    assert metrics.map == pytest.approx(0.5) and metrics.objects == {
        "ace": 1,
        "king": 1,
        "queen": 0,
    }


EASY, HARD = [10, 10, 60, 60], [100, 100, 180, 170]


@pytest.mark.parametrize("found", [[EASY], [EASY, HARD], [HARD, EASY]])
@pytest.mark.parametrize("size", ["small", "large"])
def test_a_difficult_object_is_neither_rewarded_nor_missed(found: Any, size: str) -> None:
    factor = 0.2 if size == "small" else 3
    objects, seen = boxes_of([EASY, HARD]) * factor, boxes_of(found) * factor
    scores = [0.9, 0.8][: len(found)]
    metrics = coco_metrics([result(0, objects, seen, scores, difficult=[False, True])], ("ace",))
    assert (metrics.map, metrics.summary[8]) == pytest.approx((1.0, 1.0))
    assert metrics.objects == {"ace": 1}


def test_a_difficult_object_does_not_excuse_a_detection_elsewhere() -> None:
    elsewhere = [300, 300, 350, 350]
    metrics = coco_metrics(
        [result(0, [EASY, HARD], [elsewhere, EASY], [0.9, 0.8], difficult=[False, True])], ("ace",)
    )
    assert metrics.map == pytest.approx(0.5, abs=0.01)


def test_a_class_with_difficult_objects_only_is_absent() -> None:
    metrics = coco_metrics(
        [
            result(
                0,
                [EASY, HARD],
                [EASY, HARD],
                true_labels=[1, 2],
                labels=[1, 2],
                difficult=[False, True],
            )
        ],
        CLASSES,
    )
    assert metrics.map == pytest.approx(1.0) and math.isnan(metrics.class_ap["king"][0])


def test_an_image_that_comes_twice_counts_once() -> None:
    """A loader that pads its last batch by repeating images does no harm."""
    results = random_results(2)
    assert_same(coco_metrics([*results, *results[:4]], CLASSES), coco_metrics(results, CLASSES))


@few
@given(st.permutations(range(10)))
def test_the_order_of_the_images_does_not_matter(order: list[int]) -> None:
    results = random_results(3)
    assert_same(coco_metrics([results[i] for i in order], CLASSES), coco_metrics(results, CLASSES))


def test_of_more_than_100_detections_the_100_surest_count() -> None:
    wrong = [[200 + i, 0, 205 + i, 5] for i in range(150)]
    for better, expected in ((99, 0.01), (100, 0.0)):
        scores = [0.9 - 0.001 * i for i in range(better)] + [0.1] * (150 - better)
        found = result(0, [EASY], [*wrong, EASY], [*scores, 0.5])
        assert coco_metrics([found], ("ace",)).map == pytest.approx(expected, abs=1e-3)


def test_the_100_are_counted_for_each_class() -> None:
    wrong = [[200 + i, 0, 205 + i, 5] for i in range(150)]
    found = result(0, [EASY], [*wrong, EASY], [*[0.9] * 150, 0.5], labels=[*[2] * 150, 1])
    assert coco_metrics([found], ("ace", "king")).map == pytest.approx(1.0)


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    coco_metrics(random_results(0), CLASSES)
    coco_metrics([result(0, [EASY])], CLASSES)
    assert capsys.readouterr() == ("", "")


def test_targets_and_detections_as_the_model_gives_them_make_a_result() -> None:
    boxes = torch.tensor([[1.0, 2.0, 30.0, 40.0]])
    target = {
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(50, 60)),
        "labels": torch.tensor([2]),
        "difficult": torch.tensor([True]),
        "image_id": 5,
    }
    found = {
        "boxes": boxes.clone().requires_grad_(),
        "scores": torch.tensor([0.5]),
        "labels": torch.tensor([2]),
    }
    made = ImageResult.from_tensors(target, found)
    truth, detections = made.ground_truth, made.detections
    assert made.image_id == 5 and truth.difficult.tolist() == [True] and truth.crowd is None
    assert truth.boxes.tolist() == detections.boxes.tolist() == boxes.tolist()
    arrays = (*vars(detections).values(), truth.boxes, truth.labels, truth.difficult)
    assert all(type(values) is np.ndarray for values in arrays)
    assert coco_metrics([made], CLASSES).objects["king"] == 0


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    corner, end = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    common = float(np.prod((end - corner).clip(0).astype(float)))
    sides = (one[2:] - one[:2], other[2:] - other[:2])
    return common / (sum(float(np.prod(s.astype(float))) for s in sides) - common)


def found_by_hand(r: ImageResult) -> list[int]:
    """COCO's rule in plain words: the surest first, each takes the free object of its name that it
    overlaps most; what it may take at IoU 0.5, difficult ones last and without counting."""
    truth, detections = r.ground_truth, r.detections
    found, taken = [FALSE_POSITIVE] * len(detections), set()
    for row in np.argsort(-detections.scores, kind="stable"):
        free = [
            (not truth.difficult[i], overlap(detections.boxes[row], truth.boxes[i]), i)
            for i in range(len(truth))
            if i not in taken and truth.labels[i] == detections.labels[row]
        ]
        fitting = [candidate for candidate in free if candidate[1] >= 0.5]
        if fitting:
            counts, _, index = max(fitting)
            taken.add(index)
            found[row] = index if counts else IGNORED
    return found


@pytest.mark.parametrize("seed", range(6))
def test_the_objects_found_are_those_of_the_rule_worked_by_hand(seed: int) -> None:
    evaluation = CocoEvaluation(some_difficult(random_results(seed), 0.3, seed), CLASSES)
    expected = [found_by_hand(r) for r in evaluation.results]
    assert [f.tolist() for f in evaluation.matched_objects] == expected
    flat = [i for found in expected for i in found]
    assert min(flat.count(FALSE_POSITIVE), sum(i >= 0 for i in flat)) > 5
    assert seed or IGNORED in flat


def test_the_object_found_does_not_depend_on_ranges_of_size() -> None:
    """Of a small and a medium object COCO's count of medium ones takes the medium one."""
    small, medium = [0, 0, 31, 31], [0, 0, 33, 33]
    evaluation = CocoEvaluation([result(true=[small, medium], found=[small])], CLASSES)
    assert evaluation.matched_objects[0].tolist() == [0]


def test_the_mean_of_a_precision_curve_is_the_class_ap50() -> None:
    evaluation = CocoEvaluation(random_results(2), (*CLASSES, "absent"))
    for name, curve in evaluation.precision_curves().items():
        assert curve.shape == (101,)
        np.testing.assert_allclose(curve.mean(), evaluation.metrics.class_ap[name][1], atol=1e-12)
    assert np.isnan(evaluation.precision_curves()["absent"]).all()


def test_detections_below_a_score_can_be_left_out() -> None:
    image = result(true=[[0, 0, 9, 9]], found=[[0, 0, 9, 9]] * 3, scores=[0.49, 0.5, 0.9])
    kept = image.detections.above(0.5)
    assert kept.scores.tolist() == pytest.approx([0.5, 0.9]) and len(kept) == len(kept.boxes) == 2
    assert len(image.ground_truth) == 1 and len(image.detections) == 3


def test_a_detection_of_background_is_left_out() -> None:
    found = {
        "boxes": torch.tensor([[0.0, 0, 9, 9], [1, 1, 5, 5]]),
        "scores": torch.tensor([0.9, 0.8]),
        "labels": torch.tensor([0, 2]),
    }
    kept = Detections.from_tensors(found)
    assert kept.labels.tolist() == [2] and kept.boxes.tolist() == [[1, 1, 5, 5]]
    assert kept.scores.tolist() == pytest.approx([0.8])
