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
from evaluation.metrics.coco import unique_images
from evaluation.metrics.results import Detections, GroundTruth, ImageResult, joined

# A detection's object where none of its class overlaps it enough.
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

    results: one per image; of a repeated image_id the last counts. class_names: of labels 1..K.

    Detections are taken by descending score, at equal scores by ascending image_id. Each is
    compared with one object, that of its class with the highest IoU, difficult ones included. It is
    a false positive below ``iou_threshold``, and ignored where the object is difficult; the first
    on an object is the true positive and every further one a false positive. VOC has no crowds: in
    a COCO data set, what would be a false positive is ignored, by COCO's rule, where
    ``iou_threshold`` of its own area or more lies in a crowd region of its class.

    The kit adds one pixel to widths and heights because both corner pixels belong to its boxes.
    Ours reach from the first pixel's left edge to the last one's right edge: the IoU is the same.
    """
    images = unique_images(results)
    nearest, in_crowd = _all_detections(images, iou_threshold)
    difficult = joined([r.ground_truth.difficult for r in images], np.bool_)
    true_labels = joined([r.ground_truth.labels for r in images], np.int64)
    labels = joined([r.detections.labels for r in images], np.int64)
    scores = joined([r.detections.scores for r in images], np.float64)

    ap_2007, ap_2010 = {}, {}
    for label, name in enumerate(class_names, start=1):
        objects = int(((true_labels == label) & ~difficult).sum())
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(-scores[rows], kind="stable")]
        precision = _precision(nearest[rows], in_crowd[rows], difficult)
        ap_2007[name] = _eleven_points(precision, objects)
        ap_2010[name] = _area(precision, objects)
    return VocMetrics(ap_2007, ap_2010)


def _all_detections(
    images: Sequence[ImageResult], iou_threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """For the detections of all images the object of the highest IoU and whether a crowd has it.

    Returns the object's index among those of all images or ``NOTHING``, int64 (detections,), and
    bool (detections,).
    """
    nearest, in_crowd, first = [], [], 0
    for image in images:
        truth, detections = image.ground_truth, image.detections
        same_class = detections.labels[:, None] == truth.labels
        object_ = _nearest(detections, truth, same_class & ~truth.is_crowd, iou_threshold)
        nearest.append(np.where(object_ == NOTHING, NOTHING, object_ + first))
        inside = share_inside(detections.boxes, truth.boxes) >= iou_threshold
        in_crowd.append((inside & same_class & truth.is_crowd).any(axis=1))
        first += len(truth)
    return joined(nearest, np.int64), joined(in_crowd, np.bool_)


def _nearest(
    detections: Detections, truth: GroundTruth, comparable: np.ndarray, iou_threshold: float
) -> np.ndarray:
    """The index of the comparable object with the highest IoU, or ``NOTHING``: int64 (M,).

    comparable: bool (M, N).
    """
    if not len(truth):
        return np.full(len(detections), NOTHING)
    overlap = np.where(comparable, iou(detections.boxes, truth.boxes), -1.0)
    return np.where(overlap.max(axis=1) >= iou_threshold, overlap.argmax(axis=1), NOTHING)


def _precision(nearest: np.ndarray, in_crowd: np.ndarray, difficult: np.ndarray) -> np.ndarray:
    """The highest precision with 1, 2, ... true positives or more: float64 (true positives,).

    nearest: int (M,), the object that each detection is compared with, by descending score.
    in_crowd: bool (M,). difficult: bool, of all objects.
    """
    counts = nearest == NOTHING
    counts[~counts] = ~difficult[nearest[~counts]]
    nearest, in_crowd = nearest[counts], in_crowd[counts]
    objects, first = np.unique(nearest, return_index=True)
    true_positive = np.zeros(len(nearest), dtype=bool)
    true_positive[first[objects != NOTHING]] = True
    index = np.flatnonzero(true_positive[true_positive | ~in_crowd])
    precision = np.arange(1, len(index) + 1) / (index + 1)
    return np.maximum.accumulate(precision[::-1])[::-1]


def _eleven_points(precision: np.ndarray, objects: int) -> float:
    if not objects:
        return math.nan
    # In integers: 3 of 10 objects are a recall of 0.3, whatever 3 * 0.1 is in binary.
    needed = [max(1, math.ceil(tenth * objects / 10)) for tenth in range(11)]
    return sum(float(precision[n - 1]) for n in needed if n <= len(precision)) / 11


def _area(precision: np.ndarray, objects: int) -> float:
    # Recall rises by 1 / objects at each true positive.
    return float(precision.sum() / objects) if objects else math.nan


def _mean(values: Iterable[float]) -> float:
    measured = [x for x in values if not math.isnan(x)]
    return sum(measured) / len(measured) if measured else math.nan
