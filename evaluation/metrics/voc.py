"""Average precision by the two rules of PASCAL VOC, over plain arrays.

Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", section 4.2,
https://doi.org/10.1007/s11263-009-0275-4, and for the rule since 2010 the development kit's
manual, http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.metrics.box_ops import iou, share_inside
from evaluation.metrics.coco import ImageResult, unique_images

# Of a detection: no object of its class overlaps it enough.
NOTHING = -1


@dataclass(frozen=True)
class VocMetrics:
    """AP of each class as a fraction 0..1; nan for a class without objects that count.

    ap_2007: the mean of the best precision at recall >= 0, 0.1, ..., 1. ap_2010: the area under
    the precision-recall curve made monotone, the rule of 2010 and after.
    """

    ap_2007: dict[str, float]
    ap_2010: dict[str, float]

    @property
    def mean_2007(self) -> float:
        """Over the classes that have objects; nan if none has."""
        return _mean(self.ap_2007.values())

    @property
    def mean_2010(self) -> float:
        """Over the classes that have objects; nan if none has."""
        return _mean(self.ap_2010.values())


def voc_metrics(
    results: Sequence[ImageResult], class_names: Sequence[str], iou_threshold: float = 0.5
) -> VocMetrics:
    """VOC's AP of each class, from all images at once, as the development kit counts.

    results: one entry an image; a repeated image_id counts once. class_names: of the labels 1..K.

    The surest detection comes first; of equal scores the one of the lower image_id, then the one
    listed first. Each looks at the object of its class that it overlaps most, difficult ones
    included, and at no other: if that IoU is below ``iou_threshold`` it is false; if the object is
    difficult it does not count; the first on an object is true and each further one is false.
    VOC has no crowds: those of a COCO data set excuse, as COCO's rule has it, what would be false
    and lies in a crowd region of its class with ``iou_threshold`` of its own area or more.

    The kit adds one pixel to widths and heights because both corner pixels belong to its boxes.
    Ours of a VOC data set reach from the first pixel's left edge to the last one's right edge, so
    that the plain IoU used here is the same number.
    """
    images = unique_images(results)
    found, difficult = _all_detections(images, iou_threshold)
    excused = _joined([_excused(r, iou_threshold) for r in images], np.bool_)
    true_labels = _joined([r.true_labels for r in images], np.int64)
    labels = _joined([r.labels for r in images], np.int64)
    scores = _joined([r.scores for r in images], np.float64)

    ap_2007, ap_2010 = {}, {}
    for label, name in enumerate(class_names, start=1):
        objects = int(((true_labels == label) & ~difficult).sum())
        mine = np.flatnonzero(labels == label)
        mine = mine[np.argsort(-scores[mine], kind="stable")]  # the surest first
        precision = _precision(found[mine], excused[mine], difficult)
        ap_2007[name] = _eleven_points(precision, objects)
        ap_2010[name] = _area(precision, objects)
    return VocMetrics(ap_2007, ap_2010)


def _all_detections(
    images: Sequence[ImageResult], iou_threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """What each detection looks at, and which objects are difficult, of all images in a row.

    Returns the number of an object or ``NOTHING``, int64 (detections,), and bool (objects,).
    """
    found, first = [], 0
    for r in images:
        nearest = _nearest(r, iou_threshold)
        found.append(np.where(nearest == NOTHING, NOTHING, nearest + first))
        first += r.objects
    return _joined(found, np.int64), _joined([r.difficult for r in images], np.bool_)


def _nearest(r: ImageResult, iou_threshold: float) -> np.ndarray:
    """Of each detection the object of its class with the greatest IoU, or ``NOTHING``: (M,)."""
    if not r.objects or not len(r.boxes):
        return np.full(len(r.boxes), NOTHING)
    overlap = np.where(_of_its_class(r, ~_crowd(r)), iou(r.boxes, r.true_boxes), -1.0)
    nearest = overlap.argmax(axis=1)
    return np.where(overlap.max(axis=1) >= iou_threshold, nearest, NOTHING)


def _excused(r: ImageResult, threshold: float) -> np.ndarray:
    """Of each detection whether it mostly lies in a crowd region of its class: bool (M,)."""
    inside = share_inside(r.boxes, r.true_boxes) >= threshold
    excused: np.ndarray = (inside & _of_its_class(r, _crowd(r))).any(axis=1)
    return excused


def _crowd(r: ImageResult) -> np.ndarray:
    return np.zeros(r.objects, dtype=bool) if r.crowd is None else r.crowd


def _of_its_class(r: ImageResult, objects: np.ndarray) -> np.ndarray:
    """Which of ``objects``, bool (N,), are of the detection's class: bool (M, N)."""
    alike: np.ndarray = (r.labels[:, None] == r.true_labels) & objects
    return alike


def _precision(found: np.ndarray, excused: np.ndarray, difficult: np.ndarray) -> np.ndarray:
    """The best precision that keeps at least 1, 2, ... true detections: float64 (found objects,).

    found: the objects looked at, surest detection first. excused: which do not count if false.
    """
    on_object = found != NOTHING
    counts = ~on_object
    counts[on_object] = ~difficult[found[on_object]]
    found, excused = found[counts], excused[counts]
    objects, first = np.unique(found, return_index=True)
    true = np.zeros(len(found), dtype=bool)
    true[first[objects != NOTHING]] = True
    places = np.flatnonzero(true[true | ~excused])
    precision = np.arange(1, len(places) + 1) / (places + 1)
    return np.maximum.accumulate(precision[::-1])[::-1]


def _eleven_points(precision: np.ndarray, objects: int) -> float:
    if not objects:
        return math.nan
    # In integers: 3 of 10 objects are a recall of 0.3, whatever 3 * 0.1 is in binary.
    needed = [max(1, math.ceil(tenth * objects / 10)) for tenth in range(11)]
    return sum(float(precision[n - 1]) for n in needed if n <= len(precision)) / 11


def _area(precision: np.ndarray, objects: int) -> float:
    # Recall rises by 1 / objects at each true detection and nowhere else.
    return float(precision.sum() / objects) if objects else math.nan


def _joined(parts: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype)


def _mean(values: Iterable[float]) -> float:
    measured = [x for x in values if not math.isnan(x)]
    return sum(measured) / len(measured) if measured else math.nan
