"""PASCAL VOC's AP against its rule written down once more, in plain loops."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.metrics.results import ImageResult
from evaluation.metrics.voc import voc_metrics
from tests.image_results import CLASSES, result, with_truth

pytestmark = pytest.mark.filterwarnings("error")


def naive_overlap(a: list[float], b: list[float], *, crowd: bool = False) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    area, other = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return width * height / (area if crowd else area + other - width * height)


def naive_curve(
    results: list[ImageResult], label: int, threshold: float
) -> tuple[list[tuple[int, int]], int]:
    """(TP, FP) so far after each detection that counts, and the number of objects.

    Crowds are difficult, are matched to no detection, and what would be a false positive in one
    does not count.
    """
    images = {r.image_id: r for r in results}
    detections = []
    for image_id in sorted(images):
        columns = (values.tolist() for values in vars(images[image_id].detections).values())
        rows = zip(*columns, strict=True)
        detections += [(score, image_id, box) for box, score, other in rows if other == label]
    detections.sort(key=lambda d: -d[0])
    taken, true, false, curve = set(), 0, 0, []
    for _, image_id, box in detections:
        truth, best, nearest, in_crowd = images[image_id].ground_truth, -math.inf, None, False
        for i, other in enumerate(truth.boxes.tolist()):
            if truth.labels[i] != label:
                continue
            if truth.is_crowd[i]:
                in_crowd |= naive_overlap(box, other, crowd=True) >= threshold
            elif naive_overlap(box, other) > best:
                best, nearest = naive_overlap(box, other), i
        on_object = nearest is not None and best >= threshold
        if on_object and truth.difficult[nearest]:
            continue
        if on_object and (image_id, nearest) not in taken:
            true += 1
            taken.add((image_id, nearest))
        elif in_crowd:
            continue
        else:
            false += 1
        curve.append((true, false))
    truths = [r.ground_truth for r in images.values()]
    return curve, sum(int(((t.labels == label) & ~t.difficult).sum()) for t in truths)


def naive_ap(results: list[ImageResult], label: int, threshold: float) -> tuple[float, float]:
    curve, objects = naive_curve(results, label, threshold)
    if not objects:
        return math.nan, math.nan
    points = []
    for tenth in range(11):
        reached = [t / (t + f) for t, f in curve if 10 * t >= tenth * objects]
        points.append(max(reached, default=0.0))
    recall = [0.0] + [t / objects for t, _ in curve] + [1.0]
    precision = [0.0] + [t / (t + f) for t, f in curve] + [0.0]
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    steps = range(1, len(recall))
    area = sum((recall[i] - recall[i - 1]) * precision[i] for i in steps)
    return sum(points) / 11, area


def assert_as_written_down(results: list[ImageResult], threshold: float = 0.5) -> None:
    metrics = voc_metrics(results, CLASSES, threshold)
    for label, name in enumerate(CLASSES, start=1):
        expected = naive_ap(results, label, threshold)
        measured = metrics.ap_2007[name], metrics.ap_2010[name]
        np.testing.assert_allclose(measured, expected, rtol=0, atol=1e-12)


def crowded_results(seed: int) -> list[ImageResult]:
    """Few places, few scores, few labels: doubles, ties and difficult objects everywhere."""
    draw = random.Random(seed)

    def boxes(count: int) -> list[list[int]]:
        # Steps of 2 and 4 on a side of 10 give IoUs on both sides of 0.5 and many equal ones.
        corners = [(2 * draw.randrange(8), 4 * draw.randrange(3)) for _ in range(count)]
        return [[x, y, x + 10, y + 10] for x, y in corners]

    def labels(count: int) -> list[int]:
        return [draw.choice((1, 1, 1, 2, 3)) for _ in range(count)]

    results = []
    for number in range(draw.randrange(1, 7)):
        n, m = draw.randrange(7), draw.randrange(12)
        results.append(
            result(
                50 - number,
                boxes(n),
                boxes(m),
                [draw.choice((0.1, 0.3, 0.3, 0.7, 0.9)) for _ in range(m)],
                true_labels=labels(n),
                labels=labels(m),
                difficult=[draw.random() < 0.3 for _ in range(n)],
            )
        )
    return results


def crowds_among(results: list[ImageResult], seed: int) -> list[ImageResult]:
    """Every fourth object becomes a crowd region, larger than the objects are."""
    draw, changed = random.Random(seed), []
    for r in results:
        truth = r.ground_truth
        crowd = np.array([draw.random() < 0.25 for _ in range(len(truth))], dtype=bool)
        boxes = truth.boxes + np.where(crowd[:, None], np.float32([-6, -2, 6, 2]), np.float32(0))
        changed.append(with_truth(r, boxes=boxes, difficult=truth.difficult | crowd, crowd=crowd))
    return changed


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from((0.25, 0.5, 0.75)), st.booleans())
def test_the_numbers_are_those_of_the_rule_in_plain_loops(
    seed: int, threshold: float, crowds: bool
) -> None:
    results = crowded_results(seed)
    assert_as_written_down(crowds_among(results, seed) if crowds else results, threshold)
