"""Detections with the objects that they overlap, of all images and classes at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluation.metrics.box_ops import to_xywh

PAIRS_AT_ONCE = 1 << 18  # bounds the memory, and what is worked on stays in the processor's cache


@dataclass(frozen=True)
class Boxes:
    """Objects or detections of all images.

    image: int (N,), the number of its image. label: int (N,), from 1. box: (N, 4) xyxy.
    """

    image: np.ndarray
    label: np.ndarray
    box: np.ndarray

    def rows(self, chosen: np.ndarray) -> Boxes:
        """Those of a mask or of indices, in their order."""
        return Boxes(self.image[chosen], self.label[chosen], self.box[chosen])

    @property
    def group(self) -> np.ndarray:
        """int64 (N,): a number for each image and class."""
        return (self.image.astype(np.int64) << 32) + self.label


@dataclass(frozen=True)
class Pairs:
    """A detection and an object of its image and class, each P times.

    detection, object: int (P,), by detection, and in it by ascending IoU; of equal ones the later
    object is last. iou: float64 (P,).
    """

    detection: np.ndarray
    object: np.ndarray
    iou: np.ndarray

    def rows(self, chosen: np.ndarray) -> Pairs:
        """Those of a mask or of indices, in their order."""
        return Pairs(self.detection[chosen], self.object[chosen], self.iou[chosen])


def overlapping(detections: Boxes, objects: Boxes, crowd: np.ndarray, least: float) -> Pairs:
    """All pairs of at least this IoU. crowd: bool, one an object; see ``_overlap``."""
    by_group = np.argsort(objects.group, kind="stable")
    groups, group = objects.group[by_group], detections.group
    first = np.searchsorted(groups, group)
    count = np.searchsorted(groups, group, side="right") - first
    boxes, others = to_xywh(detections.box), to_xywh(objects.box)
    some, total = np.flatnonzero(count), int(count.sum())
    limits = np.searchsorted(np.cumsum(count[some]), range(PAIRS_AT_ONCE, total, PAIRS_AT_ONCE))
    parts = []
    for detection in np.split(some, limits):
        detection = np.repeat(detection, count[detection])
        other = by_group[first[detection] + places(detection)]
        iou = _overlap(boxes[detection], others[other], crowd[other])
        close = iou >= least
        parts.append(Pairs(detection, other, iou).rows(close))
    pairs = Pairs(
        np.concatenate([part.detection for part in parts]),
        np.concatenate([part.object for part in parts]),
        np.concatenate([part.iou for part in parts]),
    )
    return pairs.rows(np.lexsort((pairs.object, pairs.iou, pairs.detection)))


def places(values: np.ndarray) -> np.ndarray:
    """The place of each in its stretch of equal values: 0, 1, 2, 0, 0, 1 for a, a, a, b, c, c."""
    place = np.arange(len(values))
    begins = np.ones(len(values), dtype=bool)
    begins[1:] = values[1:] != values[:-1]
    return place - np.maximum.accumulate(np.where(begins, place, 0))


def _overlap(boxes: np.ndarray, others: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """IoU of each box with its other one, both xywh, rounded as pycocotools' ``bbIou`` rounds it.

    With a crowd it is the share of the box that lies inside.
    """
    (x, y, w, h), (u, v, p, q) = boxes.T, others.T
    width = np.minimum(w + x, p + u) - np.maximum(x, u)
    height = np.minimum(h + y, q + v) - np.maximum(y, v)
    common, area = width * height, w * h
    union = np.where(crowd, area, area + p * q - common)
    touching = (width > 0) & (height > 0)
    return np.divide(common, union, out=np.zeros_like(common), where=touching)
