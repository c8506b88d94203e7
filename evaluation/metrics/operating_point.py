"""At which score to use a detector: precision, recall and F1 over the thresholds.

F1 is the harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN). What is right and what is
false is decided by COCO's rule at IoU 0.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from evaluation.metrics.coco import IGNORED, CocoEvaluation

DEFAULT_THRESHOLD = 0.5  # where nothing can be recommended
# Steps of a hundredth: a threshold a person can type, the same on every machine.
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

    A detection counts from the threshold on (score >= threshold).
    """

    def __init__(self, evaluation: CocoEvaluation) -> None:
        self.objects = evaluation.objects
        found = evaluation.objects_found()
        counted = [f != IGNORED for f in found]
        rows = list(zip(evaluation.results, found, counted, strict=True))
        self._scores = _joined([r.scores[c] for r, _, c in rows], np.float32)
        self._labels = _joined([r.labels[c] for r, _, c in rows], np.int64)
        self._right = _joined([f[c] >= 0 for _, f, c in rows], np.bool_)

    def classes(self, threshold: float) -> dict[str, Rates]:
        """The rates of each class."""
        above = self._scores >= np.float32(threshold)
        length = len(self.objects) + 1
        right = np.bincount(self._labels[above & self._right], minlength=length)
        false = np.bincount(self._labels[above & ~self._right], minlength=length)
        return {
            name: Rates(int(right[k]), int(false[k]), count)
            for k, (name, count) in enumerate(self.objects.items(), start=1)
        }

    def overall(self, threshold: float) -> Rates:
        """All classes' detections and objects counted together."""
        above = self._scores >= np.float32(threshold)
        right = int(self._right[above].sum())
        return Rates(right, int(above.sum()) - right, sum(self.objects.values()))

    def recommended(self) -> float | None:
        """The threshold of the highest F1 over all classes; None when no detection is right.

        Where several thresholds in a row are equally good, the one in their middle: scores of new
        pictures vary, and it is the farthest from doing worse.
        """
        f1 = [self.overall(threshold).f1 for threshold in THRESHOLDS]
        if not self._right.any():
            return None
        first = int(np.argmax(f1))
        last = first
        while last + 1 < len(f1) and f1[last + 1] == f1[first]:
            last += 1
        return THRESHOLDS[(first + last) // 2]


def _joined(parts: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([*parts, np.zeros(0, dtype)]).astype(dtype)
