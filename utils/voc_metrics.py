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

from utils.boxes import iou
from utils.metrics import ImageResult, unique_images

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

    The kit adds one pixel to widths and heights because both corner pixels belong to its boxes.
    Ours of a VOC data set reach from the first pixel's left edge to the last one's right edge, so
    that the plain IoU used here is the same number.
    """
    images = unique_images(results)
    found, difficult = _all_detections(images, iou_threshold)
    true_labels = _joined([r.true_labels for r in images], np.int64)
    labels = _joined([r.labels for r in images], np.int64)
    scores = _joined([r.scores for r in images], np.float64)

    ap_2007, ap_2010 = {}, {}
    for label, name in enumerate(class_names, start=1):
        objects = int(((true_labels == label) & ~difficult).sum())
        mine = labels == label
        surest_first = np.argsort(-scores[mine], kind="stable")
        precision = _precision(found[mine][surest_first], difficult)
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
    overlap = np.where(r.labels[:, None] == r.true_labels, iou(r.boxes, r.true_boxes), -1.0)
    nearest = overlap.argmax(axis=1)
    return np.where(overlap.max(axis=1) >= iou_threshold, nearest, NOTHING)


def _precision(found: np.ndarray, difficult: np.ndarray) -> np.ndarray:
    """The best precision that keeps at least 1, 2, ... true detections: float64 (found objects,).

    found: the objects looked at, surest detection first.
    """
    on_object = found != NOTHING
    counts = ~on_object
    counts[on_object] = ~difficult[found[on_object]]
    found = found[counts]
    objects, first = np.unique(found, return_index=True)
    true = np.sort(first[objects != NOTHING])
    precision = np.arange(1, len(true) + 1) / (true + 1)
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
