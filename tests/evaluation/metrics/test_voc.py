"""PASCAL VOC's AP: cases worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.metrics.coco import CocoEvaluation
from evaluation.metrics.results import ImageResult
from evaluation.metrics.voc import VocMetrics, voc_metrics
from tests.image_results import CLASSES, random_results, result, with_truth

pytestmark = pytest.mark.filterwarnings("error")


def square(x: float, y: float = 0.0) -> list[float]:
    return [x, y, x + 10, y + 10]


FAR = [500, 500, 510, 510]


def one_class(results: list[ImageResult]) -> tuple[float, float]:
    metrics = voc_metrics(results, ("ace",))
    return metrics.ap_2007["ace"], metrics.ap_2010["ace"]


HALF = [0, 0, 5, 10]
CASES = {
    # Four objects; true, false, true, false, false, true; the fourth is missed. Precision after
    # each: 1/1, 1/2, 2/3, 2/4, 2/5, 3/6; recall 1/4, 1/4, 2/4, 2/4, 2/4, 3/4. Best precision at
    # recall >= r: 1 up to 1/4, 2/3 up to 2/4, 1/2 up to 3/4, then 0.
    # 2007: recall 0, .1, .2 give 1; .3, .4, .5 give 2/3; .6, .7 give 1/2; .8, .9, 1 give 0.
    "a curve": (
        [
            result(1, [square(0), square(50)], [square(0), FAR, square(50)], [0.9, 0.8, 0.7]),
            result(2, [square(0), square(50)], [FAR, FAR, square(50)], [0.6, 0.5, 0.4]),
        ],
        ((3 + 2 + 1) / 11, (1 + 2 / 3 + 1 / 2) / 4),
    ),
    "a false positive of a lower score costs nothing": (
        [result(0, [square(0)], [square(0), FAR], [0.9, 0.8])],
        (1, 1),
    ),
    "a false positive of a higher score halves the precision": (
        [result(0, [square(0)], [square(0), FAR], [0.8, 0.9])],
        (0.5, 0.5),
    ),
    # True, double, true: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1.
    "the second detection of an object is false": (
        [result(0, [square(0), square(50)], [square(x) for x in (0, 0, 50)], [0.9, 0.8, 0.7])],
        ((6 + 10 / 3) / 11, (1 + 2 / 3) / 2),
    ),
    # Detections at 1.5 and 1.4 both overlap the object at 2 most. COCO's rule would give the second
    # one the free object at 0; VOC's counts it false.
    "only the object of the highest IoU counts": (
        [result(0, [square(0), square(2)], [square(1.5), square(1.4)], [0.9, 0.8])],
        (6 / 11, 1 / 2),
    ),
    "an IoU of the threshold is enough": ([result(0, [square(0)], [HALF])], (1, 1)),
    "a lower IoU is not": ([result(0, [square(0)], [[0, 0, 4.99, 10]])], (0, 0)),
    # Pixels 1 to 3 and 1 to 6 of one row are 3 / 6 with both ends counted, as the development kit
    # does. Our boxes of such a file are 0..3 and 0..6 wide and 0..1 high.
    "boxes of a VOC file": ([result(0, [[0, 0, 6, 1]], [[0, 0, 3, 1]])], (1, 1)),
    "a difficult object that is missed does not count": (
        [result(0, [square(0), square(50)], [square(50)], difficult=[True, False])],
        (1, 1),
    ),
    "nor does one that is detected": (
        [result(0, [square(0), square(50)], [square(0)], difficult=[True, False])],
        (0, 0),
    ),
    # The detection overlaps the ordinary object enough, and the difficult one more.
    "a difficult object of a higher IoU takes the detection": (
        [result(0, [square(0), square(2)], [square(1.5)], difficult=[False, True])],
        (0, 0),
    ),
    "an object of another image is not looked at": (
        [result(0, [square(0)]), result(1, found=[square(0)])],
        (0, 0),
    ),
    "boxes without area": (
        [result(0, [[5] * 4, square(0)], [[5] * 4, square(0)])],
        (0.5 * 6 / 11, 0.25),
    ),
}


@pytest.mark.parametrize(("images", "expected"), CASES.values(), ids=CASES)
def test_a_case_worked_by_hand(images: list[ImageResult], expected: tuple[float, float]) -> None:
    assert one_class(images) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("tenths", range(1, 11))
def test_a_recall_of_some_tenths_reaches_exactly_that_point(tenths: int) -> None:
    """Of ten objects k are detected and nothing else: the points 0 to k have precision 1."""
    boxes = [square(20 * i) for i in range(10)]
    ap_2007, ap_2010 = one_class([result(0, boxes, boxes[:tenths])])
    assert ap_2007 == pytest.approx((tenths + 1) / 11, abs=1e-15)
    assert ap_2010 == pytest.approx(tenths / 10, abs=1e-15)


# Crowds.


def with_crowds(image: ImageResult, *crowd: bool) -> ImageResult:
    return with_truth(image, crowd=np.array(crowd), difficult=np.array(crowd))


CROWD = [90, 50, 200, 90]


def test_detections_that_mostly_lie_in_a_crowd_are_ignored_as_by_cocos_rule() -> None:
    inside = [square(x, 60) for x in (100, 120, 140, 160, 180)]
    image = result(0, [square(0), CROWD], [*inside, square(0)])
    assert one_class([image])[1] == pytest.approx(1 / 12)
    image = with_crowds(image, False, True)
    assert CocoEvaluation([image], ("ace",)).metrics.map_50 == pytest.approx(1)
    assert one_class([image]) == (1.0, 1.0)


@pytest.mark.parametrize(("x", "label"), [(100, 2), (84, 1)], ids=["other class", "smaller part"])
def test_other_detections_at_a_crowd_are_false(x: float, label: int) -> None:
    image = result(0, [square(0), CROWD], [square(x, 60), square(0)], true_labels=[1, label])
    assert one_class([with_crowds(image, False, True)])[1] == 0.5


def test_an_object_in_a_crowd_is_detected_once_and_further_detections_are_ignored() -> None:
    """The crowd overlaps the detection more than the object does, and still does not take it."""
    objects = [square(0), square(50), [0.5, 0, 11, 10]]
    image = result(0, objects, [square(1), square(0.5), square(50)])
    assert one_class([with_crowds(image, False, False, True)]) == (1.0, 1.0)


# Whole sets.


def test_the_mean_is_over_the_classes_that_have_objects() -> None:
    metrics = VocMetrics({"ace": 0.2, "king": math.nan}, {"ace": 0.5, "king": 0.25})
    assert (metrics.mean_2007, metrics.mean_2010) == (0.2, 0.375)


def test_neither_a_repeated_image_nor_the_order_of_images_matters() -> None:
    images = random_results(3)
    expected = repr(voc_metrics(images, CLASSES))
    assert repr(voc_metrics([*images, *images[:2]], CLASSES)) == expected
    assert repr(voc_metrics(images[::-1], CLASSES)) == expected
