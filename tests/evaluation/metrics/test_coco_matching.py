"""COCO's rule for all images at once decides what pycocotools decides one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.cocoeval import COCOeval, Params

from evaluation.metrics.average_precision import LIMITS, RECALLS
from evaluation.metrics.bootstrap import ResampledMap
from evaluation.metrics.coco import FALSE_POSITIVE, IGNORED, CocoEvaluation
from evaluation.metrics.coco_matching import AREA_RANGES, IOU_THRESHOLDS, Boxes, overlapping
from evaluation.metrics.pycocotools_reference import (
    coco_input,
    greatest_difference,
    pycocotools_metrics,
    run_pycocotools,
)
from evaluation.metrics.results import ImageResult
from tests.image_results import result, with_truth

CLASSES = ("ace", "king", "queen", "never shown")
pytestmark = pytest.mark.filterwarnings("error")
several = settings(max_examples=40, deadline=None)


def grid_boxes(random: np.random.Generator, count: int, scale: float) -> np.ndarray:
    """Of few places and sizes, so that overlaps and whole boxes are often equal."""
    corner, side = random.integers(0, 4, (count, 2)), random.integers(2, 6, (count, 2))
    return (np.concatenate([corner, corner + side], axis=1) * scale).astype(np.float32)


def hard_image(random: np.random.Generator, image_id: int) -> ImageResult:
    """Crowded, with ties of everything, and now and then with each of what is rare."""
    scale = random.choice([4.0, 8.0, 16.0, 32.0, 5e4], p=[0.22, 0.23, 0.23, 0.22, 0.1])
    n = int(random.choice([0, 1, 2, 8]))
    m = int(random.choice([0, 3, 20, 250], p=[0.2, 0.3, 0.4, 0.1]))
    objects = grid_boxes(random, n, scale)
    boxes = grid_boxes(random, m, scale)
    moved = random.random(m) < 0.5
    boxes[moved] += random.normal(0, scale / 4, (int(moved.sum()), 4)).astype(np.float32)
    difficult = random.random(n) < 0.3
    labels = random.integers(1, 4, m)
    labels[random.random(m) < 0.05] = 7  # of no class at all
    made = result(
        image_id,
        objects,
        boxes,
        random.integers(1, 9, m) / 8,
        true_labels=random.integers(1, 4, n),
        labels=np.ones(m) if m > 100 and random.random() < 0.5 else labels,
        difficult=difficult,
    )
    crowd = random.random(n) < 0.2
    return with_truth(made, crowd=crowd) if random.random() < 0.5 else made


def hard_results(seed: int) -> list[ImageResult]:
    random = np.random.default_rng(seed)
    return [hard_image(random, 3 * number) for number in range(int(random.integers(0, 9)))]


def matched_by_pycocotools(results: list[ImageResult], evaluation: COCOeval) -> list[list[int]]:
    """What ``CocoEvaluation.matched_objects`` promises. results: by ascending image_id."""
    object_index = [i for r in results for i in range(len(r.ground_truth))]
    position = [(row, i) for row, r in enumerate(results) for i in range(len(r.detections))]
    matched = [[IGNORED] * len(r.detections) for r in results]
    for image in filter(None, evaluation.evalImgs):
        if image["aRng"] == evaluation.params.areaRng[0]:
            rows = zip(image["dtIds"], image["dtMatches"][0], image["dtIgnore"][0], strict=True)
            for number, match, ignored in rows:
                row, column = position[number - 1]
                index = object_index[int(match) - 1] if match else FALSE_POSITIVE
                matched[row][column] = IGNORED if ignored else index
    return matched


@several
@given(st.integers(0, 10**6))
def test_numbers_and_matches_are_those_of_pycocotools(seed: int) -> None:
    results = hard_results(seed)
    evaluation, reference = CocoEvaluation(results, CLASSES), pycocotools_metrics(results, CLASSES)
    assert greatest_difference(evaluation.metrics, reference) < 1e-12
    assert evaluation.objects == reference.objects
    drawn_once = ResampledMap(evaluation)(np.ones(len(results), int))
    assert drawn_once == pytest.approx(reference.map, abs=1e-12, nan_ok=True)

    theirs = run_pycocotools(*coco_input(results, CLASSES))
    expected = matched_by_pycocotools(results, theirs)
    assert [matched.tolist() for matched in evaluation.matched_objects] == expected
    curves = np.array(list(evaluation.precision_curves().values())).T
    expected_curves = theirs.eval["precision"][0, :, :, 0, -1]
    np.testing.assert_allclose(np.nan_to_num(curves, nan=-1), expected_curves, rtol=0, atol=1e-12)


@several
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.25, 0.3, 0.5, 1.0, 2.0]))
def test_leaving_out_the_lower_scores_needs_no_new_match(seed: int, score: float) -> None:
    results = hard_results(seed)
    measured = CocoEvaluation(results, CLASSES).metrics_above(score)
    fresh = CocoEvaluation([r.with_detections(r.detections.above(score)) for r in results], CLASSES)
    assert greatest_difference(measured, fresh.metrics) == 0


def test_the_hard_images_hold_what_is_rare() -> None:
    """Else the tests above would say little."""
    images = [image for seed in range(60) for image in hard_results(seed)]
    assert any(r.ground_truth.is_crowd.any() for r in images)
    assert any((r.detections.labels == 1).sum() > 100 for r in images)
    empty = {(len(r.ground_truth) == 0, len(r.detections) == 0) for r in images}
    assert empty >= {(True, False), (False, True)}
    boxes = np.concatenate([r.detections.boxes for r in images])
    assert ((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) > 1e10).any()
    evaluations = [CocoEvaluation(hard_results(seed), CLASSES) for seed in range(20)]
    matched = np.concatenate([m for e in evaluations for m in e.matched_objects])
    assert {IGNORED, FALSE_POSITIVE, 0, 1} <= set(matched.tolist())


def test_pairs_compared_in_small_parts_are_the_same() -> None:
    random = np.random.default_rng(0)

    def boxes(count: int) -> Boxes:
        image, label = random.integers(0, 5, count), random.integers(1, 4, count)
        return Boxes(image, label, grid_boxes(random, count, 8.0))

    detections, objects, crowd = boxes(300), boxes(60), random.random(60) < 0.2
    whole = overlapping(detections, objects, crowd, 0.5)
    parts = overlapping(detections, objects, crowd, 0.5, at_once=7)
    assert len(whole.iou) > 100
    for one, other in zip(vars(whole).values(), vars(parts).values(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_thresholds_recalls_and_sizes_are_those_of_pycocotools() -> None:
    theirs = Params("bbox")
    np.testing.assert_array_equal(IOU_THRESHOLDS, theirs.iouThrs)
    np.testing.assert_array_equal(RECALLS, theirs.recThrs)
    assert list(LIMITS) == theirs.maxDets
    assert list(AREA_RANGES) == theirs.areaRngLbl
    assert [list(limits) for limits in AREA_RANGES.values()] == theirs.areaRng
