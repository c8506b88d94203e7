"""The interval of mAP: its arithmetic is pycocotools', its width is that of the data."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.metrics.bootstrap import Interval, ResampledMap, mean_ap_interval
from evaluation.metrics.coco import CocoEvaluation
from evaluation.metrics.pycocotools_reference import pycocotools_metrics
from evaluation.metrics.results import ImageResult
from tests.image_results import CLASSES, random_boxes, random_results, result, with_truth

pytestmark = pytest.mark.filterwarnings("error")
HERE = [0, 0, 50, 50]


def repeated(results: list[ImageResult], weights: np.ndarray) -> list[ImageResult]:
    """Each image as often as its weight says, under new ids."""
    images = [r for r, weight in zip(results, weights, strict=True) for _ in range(weight)]
    return [dataclasses.replace(r, image_id=100 + number) for number, r in enumerate(images)]


def resampled(results: list[ImageResult]) -> ResampledMap:
    return ResampledMap(CocoEvaluation(results, CLASSES))


def interval(results: list[ImageResult], resamples: int = 100, **more: Any) -> Interval:
    return mean_ap_interval(CocoEvaluation(results, CLASSES), resamples=resamples, **more)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10**6),
    st.lists(st.sampled_from((0, 0, 1, 2, 5)), min_size=10, max_size=10),
    st.sampled_from((0.0, 0.4)),
)
def test_a_weight_is_the_image_repeated(seed: int, weights: list[int], share: float) -> None:
    random = np.random.default_rng(seed)
    results = [
        with_truth(r, difficult=random.random(len(r.ground_truth)) < share)
        for r in random_results(seed)
    ]
    measured = resampled(results)(np.array(weights))
    metrics = CocoEvaluation(repeated(results, np.array(weights)), CLASSES).metrics
    assert measured == pytest.approx(metrics.map, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize(
    ("objects", "found"), [(20, 11), (25, 7), (50, 7), (100, 14), (100, 29), (100, 57), (100, 100)]
)
def test_a_recall_reached_exactly_counts(objects: int, found: int) -> None:
    """As pycocotools compares: 11 of 20 objects reach 0.55, though 0.55 * 20 > 11 in binary.

    And 57 of 100 do not reach its 0.57, which is a little more than the nearest fraction to it.
    """
    boxes = [[20 * i, 0, 20 * i + 10, 10] for i in range(objects)]
    results = [result(0, boxes, boxes[:found])]
    measured = resampled(results)(np.array([1]))
    assert measured == pytest.approx(pycocotools_metrics(results, ("ace",)).map, abs=1e-12)
    reached = 100 * found // objects - (found == 57)
    assert measured == pytest.approx((1 + reached) / 101, abs=1e-12)


def test_a_class_that_no_drawn_image_shows_is_left_out() -> None:
    far = [200, 200, 250, 250]
    mean_ap = resampled(
        [
            result(0, [HERE], [HERE]),
            result(1, [HERE], [far], true_labels=[2], labels=[2]),
            result(2, found=[far], labels=[2]),
        ]
    )
    assert mean_ap(np.array([1, 1, 1])) == pytest.approx(0.5)
    assert mean_ap(np.array([1, 0, 1])) == pytest.approx(1.0)
    assert mean_ap(np.array([0, 1, 0])) == 0.0
    assert math.isnan(mean_ap(np.array([0, 0, 1])))


@pytest.mark.parametrize("seed", range(5))
def test_the_number_itself_lies_within(seed: int) -> None:
    results = random_results(seed)
    measured = CocoEvaluation(results, CLASSES).metrics.map
    found = interval(results)
    assert 0 <= found.low < measured < found.high <= 1
    assert (found.confidence, found.resamples) == (0.95, 100)


def test_the_limits_are_numpys_quantiles_mirrored_at_the_number() -> None:
    """Drawn here by hand, with the same generator."""
    coco = CocoEvaluation(random_results(0), CLASSES)
    random, mean_ap = np.random.default_rng(7), ResampledMap(coco)
    drawn = [mean_ap(np.bincount(random.integers(10, size=10), minlength=10)) for _ in range(50)]
    found = mean_ap_interval(coco, resamples=50, confidence=0.8, seed=7)
    low, high = np.quantile(drawn, [0.1, 0.9])
    twice = 2 * mean_ap(np.ones(10, dtype=int))
    assert (found.low, found.high) == pytest.approx((twice - high, twice - low))


def test_the_limits_are_fractions() -> None:
    """The object of one of three images is detected: a draw has two thirds of them, or none."""
    box = [[10, 10, 50, 50]]
    found = interval([result(1, box, box), result(2, box, []), result(3, box, [])])
    assert 0 == found.low < found.high <= 1


def image_of_a_population(random: np.random.Generator, number: int) -> ImageResult:
    """An easy or a hard image: some objects are detected; a false positive has a lower score."""
    n, skill = int(random.integers(1, 4)), random.uniform(0.3, 1)
    true, labels = random_boxes(random, n), random.integers(1, 4, n)
    side = (true[:, 2:] - true[:, :2]).min(axis=1, keepdims=True)
    moved = (true + random.normal(0, 0.06, true.shape) * side).astype(np.float32)
    detected = random.random(n) < skill
    return result(
        number,
        true,
        np.concatenate([moved[detected], random_boxes(random, 1)]),
        np.append(random.beta(4, 2, detected.sum()), random.beta(2, 4)),
        true_labels=labels,
        labels=np.append(labels[detected], random.integers(1, 4)),
    )


def test_most_intervals_hold_the_number_of_the_population() -> None:
    """Twenty samples of fifty images, at 90 %: eighteen should, and half as wide about twelve."""
    random = np.random.default_rng(0)
    population = [image_of_a_population(random, number) for number in range(1000)]
    truth = CocoEvaluation(population, CLASSES).metrics.map
    held = 0
    for start in range(0, 1000, 50):
        found = interval(population[start : start + 50], confidence=0.9)
        held += found.low <= truth <= found.high
    assert held >= 15


@pytest.mark.parametrize(
    "results",
    [
        [],
        [result(), result(1)],
        [result(found=[HERE]), result(1, found=[HERE])],
        [result(i, [HERE], [HERE], difficult=[True]) for i in range(3)],
        [result(0, [HERE], [HERE])],
        [result(0, [HERE], [HERE]), result(1), result(2, found=[HERE])],
    ],
    ids=["no image", "empty", "no object", "difficult only", "one image", "one with an object"],
)
def test_objects_in_fewer_than_two_images_give_no_interval(results: list[ImageResult]) -> None:
    found = interval(results)
    assert math.isnan(found.low) and math.isnan(found.high)
    assert found.resamples == 100


@pytest.mark.parametrize("seed", range(8))
def test_draws_without_objects_are_left_out(seed: int) -> None:
    """Two images of twenty show an object: about one draw in eight shows none of them.

    Recall reaches a half, which is 51 of COCO's 101 points; the draws go from 0 to 1 around it.
    """
    empty = [result(i) for i in range(18)]
    shown = [result(18, [HERE], [HERE]), result(19, [HERE])]
    found = interval([*empty, *shown], resamples=40, seed=seed)
    assert (found.low, found.high) == pytest.approx((2 * 51 / 101 - 1, 1.0), abs=1e-9)


def test_where_no_draw_shows_an_object_there_is_no_interval() -> None:
    """The only draw of one seed in eight; of any other seed the interval is a point."""
    shown = [result(18, [HERE], [HERE]), result(19, [HERE], [HERE])]
    results = [*(result(i) for i in range(18)), *shown]
    found = [interval(results, resamples=1, seed=seed) for seed in range(40)]
    absent = [math.isnan(x.low) and math.isnan(x.high) for x in found]
    assert 0 < sum(absent) < 40
    points = [(x.low, x.high) for x, none in zip(found, absent, strict=True) if not none]
    np.testing.assert_allclose(points, 1.0, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("resamples", "confidence"), [(0, 0.9), (10, 0.0), (10, 1.0), (10, 95)])
def test_a_number_out_of_range_is_refused(resamples: int, confidence: float) -> None:
    with pytest.raises(ValueError, match=f"{resamples} resamples"):
        interval(random_results(0), resamples, confidence=confidence)
