"""COCO's precision and recall from the matches.

The arithmetic is that of pycocotools' ``COCOeval.accumulate``. The precision at a recall is the
highest at this recall or a higher one, and that is always the precision at a true positive, so it
is computed only there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.metrics.coco_matching import IOU_THRESHOLDS, MAX_DETECTIONS, Matches

RECALLS = np.linspace(0.0, 1.0, 101)
# Recall is also measured with only the highest-scoring detections of an image and class.
LIMITS = (1, 10, MAX_DETECTIONS)


@dataclass(frozen=True)
class Curves:
    """-1 for a class without objects in that area range.

    precision: (thresholds, recalls, classes, area ranges), the highest at this recall or above.
    recall: (thresholds, classes, area ranges, ``LIMITS``).
    """

    precision: np.ndarray
    recall: np.ndarray


def curves(matches: Matches) -> Curves:
    """Precision and recall of each class at each IoU threshold and in each area range."""
    thresholds, (ranges, classes) = len(IOU_THRESHOLDS), matches.object_counts.shape
    precision = np.full((thresholds, len(RECALLS), classes, ranges), -1.0)
    recall = np.full((thresholds, classes, ranges, len(LIMITS)), -1.0)
    ends = np.searchsorted(matches.label, np.arange(1, classes + 2))
    candidate_ends = np.searchsorted(matches.candidates, ends)
    for area, k in zip(*np.nonzero(matches.object_counts), strict=True):
        rows = slice(candidate_ends[k], candidate_ends[k + 1])
        candidates = matches.candidates[rows]
        true_positive = matches.true_positive[area, :, rows]
        ignored = matches.ignored[area, :, rows]
        in_range = matches.in_area_range[area, ends[k] : ends[k + 1]]
        objects = matches.object_counts[area, k]
        inside = in_range[candidates - ends[k]]
        # A true positive outside the range counts too, and an ignored detection never counts.
        change = (true_positive & ~inside).astype(np.int64) - (ignored & inside)
        counted = np.cumsum(in_range)[candidates - ends[k]] + np.cumsum(change, axis=1)
        precision[:, :, k, area] = _precision(true_positive, counted, objects)
        for column, limit in enumerate(LIMITS):
            within = true_positive & (matches.rank[candidates] < limit)
            recall[:, k, area, column] = np.count_nonzero(within, axis=1) / objects
    return Curves(precision, recall)


def class_average_precision(
    precision: np.ndarray, class_names: Sequence[str]
) -> dict[str, tuple[float, float, float]]:
    """AP at IoU 0.50:0.95, AP50 and AP75 of each class; nan without objects.

    precision: (thresholds, recalls, classes), -1 for a class without objects.
    """
    return {
        name: (
            mean_measured(precision[:, :, k]),
            mean_measured(precision[0, :, k]),
            mean_measured(precision[5, :, k]),
        )
        for k, name in enumerate(class_names)
    }


def mean_measured(values: np.ndarray) -> float:
    """Of the values that are not -1; nan if there are none."""
    measured = values[values > -1]
    return float(measured.mean()) if measured.size else math.nan


def _precision(true_positive: np.ndarray, counted: np.ndarray, objects: int) -> np.ndarray:
    """At each recall: (T, R).

    true_positive: bool (T, N). counted: (T, N), detections that count so far.
    """
    true_positives = np.cumsum(true_positive, axis=1)
    precision = np.where(true_positive, true_positives / (counted + np.spacing(1)), 0.0)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    best = np.append(best, np.zeros((len(best), 1)), axis=1)  # a recall that is never reached
    reached = [np.searchsorted(row, RECALLS) for row in true_positives / objects]
    return np.take_along_axis(best, np.array(reached), axis=1)
