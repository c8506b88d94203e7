"""The score threshold to use a detector at: precision, recall and F1 at each threshold.

F1 is the harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN). True and false positives
are those of COCO's rule at IoU 0.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from evaluation.metrics.coco import IGNORED, CocoEvaluation
from evaluation.metrics.results import joined

LOWEST_SCORE = 0.05  # of the detections that are measured
DEFAULT_THRESHOLD = 0.5  # where nothing can be recommended
# Whole hundredths: short to type, and the same on every machine.
THRESHOLDS = tuple(percent / 100 for percent in range(5, 100))


@dataclass(frozen=True)
class Rates:
    """Fractions 0..1; nan where there is neither an object nor a detection to count.

    Without any detection, precision is 0 where there are objects.
    """

    true_positives: int
    false_positives: int
    objects: int

    @property
    def precision(self) -> float:
        detections = self.true_positives + self.false_positives
        if not detections:
            return 0.0 if self.objects else math.nan
        return self.true_positives / detections

    @property
    def recall(self) -> float:
        return self.true_positives / self.objects if self.objects else math.nan

    @property
    def f1(self) -> float:
        total = self.true_positives + self.false_positives + self.objects
        return 2 * self.true_positives / total if total else math.nan


class OperatingPoints:
    """Precision, recall and F1 of an evaluation at any score threshold.

    A detection counts where its score is the threshold or higher.
    """

    def __init__(self, evaluation: CocoEvaluation) -> None:
        self.objects = evaluation.objects
        detections = [r.detections for r in evaluation.results]
        matched = joined(evaluation.matched_objects, np.int64)
        counted = matched != IGNORED
        self._scores = joined([d.scores for d in detections], np.float32)[counted]
        self._labels = joined([d.labels for d in detections], np.int64)[counted]
        self._true_positive = matched[counted] >= 0

    def classes(self, threshold: float) -> dict[str, Rates]:
        """The rates of each class."""
        above = self._scores >= np.float32(threshold)
        length = len(self.objects) + 1
        true_positives = np.bincount(self._labels[above & self._true_positive], minlength=length)
        false_positives = np.bincount(self._labels[above & ~self._true_positive], minlength=length)
        return {
            name: Rates(int(true_positives[k]), int(false_positives[k]), count)
            for k, (name, count) in enumerate(self.objects.items(), start=1)
        }

    def overall(self, threshold: float) -> Rates:
        """All classes' detections and objects counted together."""
        above = self._scores >= np.float32(threshold)
        true_positives = int(self._true_positive[above].sum())
        return Rates(true_positives, int(above.sum()) - true_positives, sum(self.objects.values()))

    def recommended(self) -> float | None:
        """The threshold with the highest F1 over all classes; None without any true positive.

        Where several neighbouring thresholds are equally good, the middle one: the scores of new
        images differ a little, and it is the farthest from a lower F1.
        """
        if not self._true_positive.any():
            return None
        f1 = [self.overall(threshold).f1 for threshold in THRESHOLDS]
        first = last = int(np.argmax(f1))
        while last + 1 < len(f1) and f1[last + 1] == f1[first]:
            last += 1
        return THRESHOLDS[(first + last) // 2]


def score_threshold(requested: float | None, recommended: float | None) -> float:
    """The score from which detections are shown: the requested, else the recommended, else 0.5."""
    return next(t for t in (requested, recommended, DEFAULT_THRESHOLD) if t is not None)
