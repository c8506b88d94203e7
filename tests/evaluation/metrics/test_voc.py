"""PASCAL VOC's AP: cases worked by hand, and the rule written down once more in plain loops."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.metrics.coco import CocoEvaluation
from evaluation.metrics.results import ImageResult
from evaluation.metrics.voc import VocMetrics, voc_metrics
from tests.evaluation.metrics.test_coco import (
    detected_perfectly,
    random_results,
    result,
    with_truth,
    without_detections,
)

CLASSES = ("ace", "king", "queen")
pytestmark = pytest.mark.filterwarnings("error")


def square(x: float, y: float = 0.0) -> list[float]:
    return [x, y, x + 10, y + 10]


FAR = [500, 500, 510, 510]


# The rule in plain loops, one detection after the other.


def naive_iou(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return width * height / (areas[0] + areas[1] - width * height)


def naive_share(a: list[float], region: list[float]) -> float:
    common = [
        max(a[0], region[0]),
        max(a[1], region[1]),
        min(a[2], region[2]),
        min(a[3], region[3]),
    ]
    width, height = common[2] - common[0], common[3] - common[1]
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / ((a[2] - a[0]) * (a[3] - a[1]))


def naive_curve(
    results: list[ImageResult], label: int, threshold: float
) -> tuple[list[tuple[int, int]], int]:
    """(true, false) so far after each detection that counts, and the number of objects.

    Objects of crowds are difficult, take no detection, and excuse what would be false.
    """
    images = {r.image_id: r for r in results}
    detections = []
    for image_id in sorted(images):
        for box, score, its_label in zip(
            *(values.tolist() for values in vars(images[image_id].detections).values()), strict=True
        ):
            if its_label == label:
                detections.append((score, image_id, box))
    detections.sort(key=lambda d: -d[0])
    taken, true, false, curve = set(), 0, 0, []
    for _, image_id, box in detections:
        truth, best, nearest = images[image_id].ground_truth, -math.inf, None
        excused = False
        for i, other in enumerate(truth.boxes.tolist()):
            if truth.labels[i] != label:
                continue
            if truth.is_crowd[i]:
                excused |= naive_share(box, other) >= threshold
            elif naive_iou(box, other) > best:
                best, nearest = naive_iou(box, other), i
        if nearest is None or best < threshold:
            if excused:
                continue
            false += 1
        elif truth.difficult[nearest]:
            continue
        elif (image_id, nearest) in taken:
            if excused:
                continue
            false += 1
        else:
            true += 1
            taken.add((image_id, nearest))
        curve.append((true, false))
    objects = 0
    for r in images.values():
        for its_label, hard in zip(r.ground_truth.labels, r.ground_truth.difficult, strict=True):
            objects += bool(its_label == label and not hard)
    return curve, objects


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
    area = 0.0
    for i in range(1, len(recall)):
        area += (recall[i] - recall[i - 1]) * precision[i]
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

    def boxes(count: int) -> list[list[float]]:
        # Steps of 2 and 4 on a side of 10 give IoUs on both sides of 0.5 and many equal ones.
        return [square(2.0 * draw.randrange(8), 4.0 * draw.randrange(3)) for _ in range(count)]

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


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from((0.25, 0.5, 0.75)))
def test_the_numbers_are_those_of_the_rule_in_plain_loops(seed: int, threshold: float) -> None:
    assert_as_written_down(crowded_results(seed), threshold)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from((0.25, 0.5, 0.75)))
def test_with_crowds_too(seed: int, threshold: float) -> None:
    """Every fourth object is a crowd region, and larger than the objects are."""
    draw = random.Random(seed)
    results = []
    for r in crowded_results(seed):
        truth = r.ground_truth
        crowd = np.array([draw.random() < 0.25 for _ in range(len(truth))], dtype=bool)
        boxes = truth.boxes + np.where(crowd[:, None], np.float32([-6, -2, 6, 2]), np.float32(0))
        difficult = truth.difficult | crowd
        results.append(with_truth(r, boxes=boxes, difficult=difficult, crowd=crowd))
    assert_as_written_down(results, threshold)


def with_crowds(image: ImageResult, *crowd: bool) -> ImageResult:
    return with_truth(image, crowd=np.array(crowd), difficult=np.array(crowd))


def test_a_crowd_excuses_every_detection_that_mostly_lies_in_it() -> None:
    """As COCO's rule does, which knows the crowd of the same image."""
    found = [*(square(x, 60) for x in (100, 120, 140, 160, 180)), square(0)]
    image = result(0, [square(0), [90, 50, 200, 90]], found)
    assert one_class([image])[1] == pytest.approx(1 / 12)
    assert CocoEvaluation(
        [with_crowds(image, False, True)], ("ace",)
    ).metrics.map_50 == pytest.approx(1)
    assert one_class([with_crowds(image, False, True)]) == (1.0, 1.0)


def test_a_crowd_of_another_class_excuses_nothing() -> None:
    image = result(0, [square(0), [90, 50, 200, 90]], [square(100, 60), square(0)])
    image = with_crowds(with_truth(image, labels=np.array([1, 2])), False, True)
    assert voc_metrics([image], CLASSES).ap_2010["ace"] == 0.5


def test_a_detection_with_its_smaller_part_in_a_crowd_is_false() -> None:
    image = result(0, [square(0), [90, 50, 200, 90]], [square(84, 60), square(0)])
    assert one_class([with_crowds(image, False, True)])[1] == 0.5


def test_an_object_in_a_crowd_is_found_once_and_further_detections_are_excused() -> None:
    """The crowd is nearer than the object, and takes the detection from it nevertheless not."""
    image = result(0, [square(0), square(50)], [square(1), square(0.5), square(50)])
    crowd = [0.5, 0, 11, 10]
    boxes = np.array([[0, 0, 10, 10], [50, 0, 60, 10], crowd])
    image = with_truth(image, boxes=boxes, labels=np.ones(3, np.int64))
    assert one_class([with_crowds(image, False, False, True)]) == (1.0, 1.0)


@pytest.mark.parametrize("seed", range(10))
def test_on_ordinary_images_too(seed: int) -> None:
    assert_as_written_down(random_results(seed))


def one_class(results: list[ImageResult]) -> tuple[float, float]:
    metrics = voc_metrics(results, ("ace",))
    return metrics.ap_2007["ace"], metrics.ap_2010["ace"]


def test_a_curve_worked_by_hand() -> None:
    """Four objects; true, false, true, false, false, true; the fourth is missed.

    Precision after each: 1/1, 1/2, 2/3, 2/4, 2/5, 3/6; recall 1/4, 1/4, 2/4, 2/4, 2/4, 3/4.
    Best precision at recall >= r: 1 up to 1/4, 2/3 up to 2/4, 1/2 up to 3/4, then 0.
    2007: recall 0, .1, .2 give 1; .3, .4, .5 give 2/3; .6, .7 give 1/2; .8, .9, 1 give 0:
    (3 + 2 + 1) / 11. 2010: (1 + 2/3 + 1/2) / 4.
    """
    images = [
        result(1, [square(0), square(50)], [square(0), FAR, square(50)], [0.9, 0.8, 0.7]),
        result(2, [square(0), square(50)], [FAR, FAR, square(50)], [0.6, 0.5, 0.4]),
    ]
    assert one_class(images) == pytest.approx((6 / 11, 13 / 24), abs=1e-15)


@pytest.mark.parametrize("tenths", range(1, 11))
def test_a_recall_of_some_tenths_reaches_exactly_that_point(tenths: int) -> None:
    """Of ten objects k are found and nothing else: the k + 1 points 0 to k have precision 1."""
    places = [square(20 * i) for i in range(10)]
    ap_2007, ap_2010 = one_class([result(0, places, places[:tenths])])
    assert ap_2007 == pytest.approx((tenths + 1) / 11, abs=1e-15)
    assert ap_2010 == pytest.approx(tenths / 10, abs=1e-15)


@pytest.mark.parametrize(("scores", "expected"), [((0.9, 0.8), 1.0), ((0.8, 0.9), 0.5)])
def test_a_false_detection_costs_where_it_is_surer(scores: Any, expected: float) -> None:
    """One object. Surer: precision 0, 1/2, so the best is 1/2 everywhere. Else it is 1."""
    images = [result(0, [square(0)], [square(0), FAR], scores)]
    assert one_class(images) == pytest.approx((expected, expected))


def test_the_second_detection_on_an_object_is_false() -> None:
    """Two objects; true, double (false), true. Precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1.

    2007: 0 to .5 give 1, .6 to 1 give 2/3: (6 + 10/3) / 11. 2010: (1 + 2/3) / 2.
    """
    found = [square(0), square(0), square(50)]
    images = [result(0, [square(0), square(50)], found, [0.9, 0.8, 0.7])]
    assert one_class(images) == pytest.approx((28 / 33, 5 / 6))


def test_a_detection_looks_at_the_object_it_overlaps_most_and_at_no_other() -> None:
    """Objects at 0 and 2; detections at 1.5 and 1.4 both lie nearer to the second.

    COCO's rule would give the second detection the free object; VOC's counts it false.
    Two objects, one found first: 2007 gives 6/11, 2010 gives 1/2.
    """
    images = [result(0, [square(0), square(2)], [square(1.5), square(1.4)], [0.9, 0.8])]
    assert one_class(images) == pytest.approx((6 / 11, 1 / 2))


def test_an_iou_of_exactly_the_threshold_is_enough() -> None:
    """A box of 10 by 10 with its half of 5 by 10: 50 / 100."""
    assert one_class([result(0, [[0, 0, 10, 10]], [[0, 0, 5, 10]])]) == (1.0, 1.0)
    assert one_class([result(0, [[0, 0, 10, 10]], [[0, 0, 4.99, 10]])]) == (0.0, 0.0)


def test_boxes_of_a_voc_file_overlap_as_in_the_development_kit() -> None:
    """Pixels 1 to 3 and 1 to 6 of one row: 3 / 6 with both ends counted, as the kit does.

    Our boxes of such a file are 0..3 and 0..6 wide and 0..1 high.
    """
    assert one_class([result(0, [[0, 0, 6, 1]], [[0, 0, 3, 1]])]) == (1.0, 1.0)


@pytest.mark.parametrize("score", [0.95, 0.5])
@pytest.mark.parametrize("times", [1, 3])
def test_a_detection_on_a_difficult_object_does_not_count(score: float, times: int) -> None:
    found, scores = [square(0)] + [square(50)] * times, [0.9] + [score] * times
    images = [result(0, [square(0), square(50)], found, scores, difficult=[False, True])]
    assert one_class(images) == (1.0, 1.0)


def test_a_missed_difficult_object_does_not_count() -> None:
    images = [result(0, [square(0), square(50)], [square(0)], difficult=[True, False])]
    assert one_class(images) == (0.0, 0.0)
    images = [result(0, [square(0), square(50)], [square(50)], difficult=[True, False])]
    assert one_class(images) == (1.0, 1.0)


def test_a_difficult_object_that_is_nearer_swallows_the_detection() -> None:
    """The detection at 1.5 overlaps the ordinary object enough, and the difficult one more."""
    images = [result(0, [square(0), square(2)], [square(1.5)], difficult=[False, True])]
    assert one_class(images) == (0.0, 0.0)


def test_an_object_of_another_class_is_not_looked_at() -> None:
    images = [result(0, [square(0), square(0)], [square(0)], true_labels=[2, 1], labels=[1])]
    metrics = voc_metrics(images, CLASSES)
    assert (metrics.ap_2010["ace"], metrics.ap_2010["king"]) == (1.0, 0.0)


def test_an_object_in_another_image_is_not_looked_at() -> None:
    images = [result(0, [square(0)]), result(1, found=[square(0)])]
    assert one_class(images) == (0.0, 0.0)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_a_perfect_detector_has_exactly_one(seed: int) -> None:
    metrics = voc_metrics(detected_perfectly(random_results(seed)), CLASSES)
    assert metrics.mean_2007 == metrics.mean_2010 == 1.0


def test_a_detector_that_finds_nothing_has_zero() -> None:
    metrics = voc_metrics(without_detections(random_results(1)), CLASSES)
    assert metrics.ap_2007 == metrics.ap_2010 == dict.fromkeys(CLASSES, 0.0)
    assert metrics.mean_2007 == metrics.mean_2010 == 0.0


@pytest.mark.parametrize(
    "images",
    [
        [],
        [result()],
        [result(found=[FAR, FAR])],
        [result(0, [square(0)], [square(0)], difficult=[True])],
    ],
    ids=["no image", "an empty image", "false detections only", "difficult objects only"],
)
def test_without_objects_everything_is_absent(images: list[ImageResult]) -> None:
    metrics = voc_metrics(images, CLASSES)
    assert list(metrics.ap_2007) == list(metrics.ap_2010) == list(CLASSES)
    absent = [*metrics.ap_2007.values(), *metrics.ap_2010.values()]
    assert all(math.isnan(x) for x in (*absent, metrics.mean_2007, metrics.mean_2010))


def test_boxes_without_area_are_no_trouble() -> None:
    point = [5, 5, 5, 5]
    assert one_class([result(0, [point, square(0)], [point, square(0)])]) == (
        pytest.approx(0.5 * 6 / 11),
        pytest.approx(0.25),
    )


def test_the_mean_is_over_the_classes_that_have_objects() -> None:
    metrics = VocMetrics({"ace": 0.2, "king": math.nan}, {"ace": 0.5, "king": 0.25})
    assert (metrics.mean_2007, metrics.mean_2010) == (0.2, 0.375)


def test_an_image_that_comes_twice_counts_once() -> None:
    images = crowded_results(3)
    assert repr(voc_metrics([*images, *images[:2]], CLASSES)) == repr(voc_metrics(images, CLASSES))


def test_the_order_of_the_images_does_not_matter() -> None:
    images = crowded_results(5)
    assert repr(voc_metrics(images[::-1], CLASSES)) == repr(voc_metrics(images, CLASSES))
