"""COCO's rule for all images at once decides what pycocotools decides one by one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.cocoeval import COCOeval, Params

from evaluation.metrics import coco as metrics_module
from evaluation.metrics import coco_matching as pairs_module
from evaluation.metrics.average_precision import LIMITS, RECALLS
from evaluation.metrics.bootstrap import ResampledMap
from evaluation.metrics.coco import CocoEvaluation, ImageResult, above, coco_metrics
from evaluation.metrics.coco_matching import IOU_THRESHOLDS, SIZES, places
from tests.coco_oracle import official, official_objects_found
from tests.evaluation.metrics.test_coco import numbers, result

CLASSES = ("ace", "king", "queen", "never shown")
pytestmark = pytest.mark.filterwarnings("error")
some = settings(max_examples=40, deadline=None)
seeds = given(st.integers(0, 10**6))


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
    return dataclasses.replace(made, crowd=crowd) if random.random() < 0.5 else made


def hard_results(seed: int) -> list[ImageResult]:
    random = np.random.default_rng(seed)
    return [hard_image(random, 3 * number) for number in range(int(random.integers(0, 9)))]


def official_numbers(evaluation: COCOeval) -> list[float]:
    """As ``numbers`` lists them."""
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    of_class = [
        part[part > -1].mean() if (part > -1).any() else np.nan
        for k in range(len(CLASSES))
        for part in (precision[:, :, k], precision[0, :, k], precision[5, :, k])
    ]
    return [*np.where(evaluation.stats < 0, np.nan, evaluation.stats), *of_class]


@some
@seeds
def test_the_numbers_are_those_of_pycocotools(seed: int) -> None:
    results = hard_results(seed)
    evaluation, oracle = CocoEvaluation(results, CLASSES), official(results, len(CLASSES))
    np.testing.assert_allclose(
        numbers(evaluation.metrics), official_numbers(oracle), rtol=0, atol=1e-12
    )
    curves = np.array(list(evaluation.precision_curves().values())).T
    expected = oracle.eval["precision"][0, :, :, 0, -1]
    np.testing.assert_allclose(np.nan_to_num(curves, nan=-1), expected, rtol=0, atol=1e-12)


@some
@seeds
def test_the_objects_found_are_those_of_pycocotools(seed: int) -> None:
    results = hard_results(seed)
    found = CocoEvaluation(results, CLASSES).objects_found()
    expected = official_objects_found(results, official(results, len(CLASSES)))
    assert [f.tolist() for f in found] == expected


@some
@seeds
def test_every_image_drawn_once_is_the_number_of_pycocotools(seed: int) -> None:
    results = hard_results(seed)
    drawn = ResampledMap(CocoEvaluation(results, CLASSES))(np.ones(len(results), int))
    expected = official_numbers(official(results, len(CLASSES)))[0]
    assert drawn == pytest.approx(expected, abs=1e-12, nan_ok=True)


@some
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.25, 0.3, 0.5, 1.0, 2.0]))
def test_leaving_out_the_less_sure_needs_no_new_match(seed: int, score: float) -> None:
    results = hard_results(seed)
    measured = CocoEvaluation(results, CLASSES).metrics_above(score)
    fresh = coco_metrics(above(results, score), CLASSES)
    np.testing.assert_array_equal(numbers(measured), numbers(fresh))


def test_the_hard_images_hold_what_is_rare() -> None:
    """Else the tests above would say little."""
    images = [image for seed in range(60) for image in hard_results(seed)]
    assert any(r.crowd is not None and r.crowd.sum() > 0 for r in images)
    assert any((r.labels == 1).sum() > 100 for r in images)
    assert any(not r.objects and len(r.boxes) for r in images)
    assert any(r.objects and not len(r.boxes) for r in images)
    assert any(((r.boxes[:, 2:] - r.boxes[:, :2]).prod(axis=1) > 1e10).any() for r in images)
    found = np.concatenate([f for s in range(20) for f in _found(s)])
    assert {-2, -1, 0, 1} <= set(found.tolist())


def _found(seed: int) -> list[np.ndarray]:
    return CocoEvaluation(hard_results(seed), CLASSES).objects_found()


def test_pairs_taken_in_small_parts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [CocoEvaluation(hard_results(seed), CLASSES).matches for seed in range(8)]
    monkeypatch.setattr(pairs_module, "PAIRS_AT_ONCE", 7)
    parts = [CocoEvaluation(hard_results(seed), CLASSES).matches for seed in range(8)]
    for one, other in zip(whole, parts, strict=True):
        for field in dataclasses.fields(one):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


def test_thresholds_recalls_and_sizes_are_those_of_pycocotools() -> None:
    theirs = Params("bbox")
    np.testing.assert_array_equal(IOU_THRESHOLDS, theirs.iouThrs)
    np.testing.assert_array_equal(RECALLS, theirs.recThrs)
    assert list(LIMITS) == theirs.maxDets
    assert list(SIZES) == theirs.areaRngLbl
    assert [list(limits) for limits in SIZES.values()] == theirs.areaRng


def test_an_evaluation_matches_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    match = metrics_module.match
    monkeypatch.setattr(metrics_module, "match", lambda *given: calls.append(1) or match(*given))
    evaluation = CocoEvaluation(hard_results(3), CLASSES)
    assert evaluation.metrics and evaluation.metrics_above(0.5) and evaluation.objects_found()
    assert evaluation.precision_curves() and ResampledMap(evaluation) and len(calls) == 1


@pytest.mark.parametrize(
    ("values", "expected"), [("", []), ("a", [0]), ("aaabcc", [0, 1, 2, 0, 0, 1])]
)
def test_places_are_counted_in_each_stretch(values: str, expected: list[int]) -> None:
    assert places(np.array(list(values), dtype="U1")).tolist() == expected
