"""COCO's precision and recall from what was matched.

The arithmetic is that of pycocotools' ``COCOeval.accumulate``. Precision can only be greatest at a
true detection, so that nothing is computed anywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluation.metrics.coco_matching import IOU_THRESHOLDS, MAX_DETECTIONS, SIZES, Matches

RECALLS = np.linspace(0.0, 1.0, 101)
# Recall is also measured with the surest detections of an image and class only.
LIMITS = (1, 10, MAX_DETECTIONS)


@dataclass(frozen=True)
class Curves:
    """-1 for a class without objects of that size.

    precision: (thresholds, recalls, classes, sizes), the best at this recall or a higher one.
    recall: (thresholds, classes, sizes, ``LIMITS``).
    """

    precision: np.ndarray
    recall: np.ndarray


def curves(matches: Matches) -> Curves:
    """Of each class, IoU threshold and size."""
    thresholds, sizes, classes = len(IOU_THRESHOLDS), len(SIZES), matches.counts.shape[1]
    precision = np.full((thresholds, len(RECALLS), classes, sizes), -1.0)
    recall = np.full((thresholds, classes, sizes, len(LIMITS)), -1.0)
    ends = np.searchsorted(matches.label, np.arange(1, classes + 2))
    near_ends = np.searchsorted(matches.near, ends)
    for size, k in zip(*np.nonzero(matches.counts), strict=True):
        mine = slice(near_ends[k], near_ends[k + 1])
        near = matches.near[mine]
        true, excused = matches.true[size, :, mine], matches.excused[size, :, mine]
        sized = matches.sized[size, ends[k] : ends[k + 1]]
        objects = matches.counts[size, k]
        seen = np.cumsum(sized)[near - ends[k]] + _correction(true, excused, sized[near - ends[k]])
        precision[:, :, k, size] = _precision(true, seen, objects)
        for place, limit in enumerate(LIMITS):
            counted = true & (matches.rank[near] < limit)
            recall[:, k, size, place] = np.count_nonzero(counted, axis=1) / objects
    return Curves(precision, recall)


def _correction(true: np.ndarray, excused: np.ndarray, sized: np.ndarray) -> np.ndarray:
    """What to add to the number of detections of this size to have those that count: int (T, N).

    One of another size counts where it found an object of this size; an excused one does not.
    """
    change = (true & ~sized).astype(np.int64) - (excused & sized)
    return np.cumsum(change, axis=1)


def _precision(true: np.ndarray, seen: np.ndarray, objects: int) -> np.ndarray:
    """At each recall: (T, R). true, seen: (T, N), the detections that count up to each."""
    found = np.cumsum(true, axis=1)
    here = np.where(true, found / (seen + np.spacing(1)), 0.0)
    best = np.maximum.accumulate(here[:, ::-1], axis=1)[:, ::-1]
    best = np.append(best, np.zeros((len(best), 1)), axis=1)  # a recall that is never reached
    reached = [np.searchsorted(row, RECALLS) for row in found / objects]
    return np.take_along_axis(best, np.array(reached), axis=1)
