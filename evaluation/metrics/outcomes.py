"""What became of each object and each detection at one score threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.metrics.box_ops import iou
from evaluation.metrics.coco import FALSE, CocoEvaluation, ImageResult

SAME_PLACE = 0.5  # IoU


@dataclass(frozen=True)
class Outcome:
    """One image at one threshold; ``image`` holds the detections above it, M of them.

    found: int (M,), the object that a detection found under its own name, else ``FALSE`` or
    ``IGNORED``. mistaken: int (M,), the object that a false detection lies on, which has another
    name and was not found, else ``FALSE``.
    """

    image: ImageResult
    found: np.ndarray
    mistaken: np.ndarray

    def ordered(self, order: np.ndarray) -> Outcome:
        """The same with its detections in another order: int (M,)."""
        return Outcome(self.image.keep(order), self.found[order], self.mistaken[order])

    @property
    def right(self) -> np.ndarray:
        """bool (M,)."""
        return self.found >= 0

    @property
    def confused(self) -> np.ndarray:
        """bool (M,): in the place of an object, under a wrong name."""
        return self.mistaken >= 0

    @property
    def false(self) -> np.ndarray:
        """bool (M,): where nothing is, or a second time where something is."""
        return (self.found == FALSE) & ~self.confused

    @property
    def seen(self) -> np.ndarray:
        """bool (N,): objects found under their names."""
        return np.isin(np.arange(self.image.objects), self.found)

    @property
    def missed(self) -> np.ndarray:
        """bool (N,): objects with no detection in their place, difficult ones left out."""
        taken = self.seen | np.isin(np.arange(self.image.objects), self.mistaken)
        return ~taken & ~self.image.difficult


def outcomes(evaluation: CocoEvaluation, threshold: float) -> list[Outcome]:
    """One for each image of the evaluation.

    Right is what COCO's rule calls right at IoU 0.5. Of what is left, each detection, the surest
    first, takes the object that it overlaps most: a confusion from IoU 0.5 on.
    """
    rows = zip(evaluation.results, evaluation.objects_found(), strict=True)
    return [_outcome(image, found, threshold) for image, found in rows]


def _outcome(image: ImageResult, found: np.ndarray, threshold: float) -> Outcome:
    # COCO's rule goes by descending score, so what lies below the threshold took nothing from
    # what lies above it.
    above = image.scores >= np.float32(threshold)
    image, found = image.keep(above), found[above]
    mistaken = np.full(len(found), FALSE)
    free = ~np.isin(np.arange(image.objects), found) & ~image.difficult
    if free.any():
        overlap = iou(image.boxes, image.true_boxes)
        for row in np.argsort(-image.scores, kind="stable"):
            if found[row] != FALSE:
                continue
            candidates = np.where(free, overlap[row], 0.0)
            best = int(candidates.argmax())
            if candidates[best] >= SAME_PLACE:
                mistaken[row], free[best] = best, False
    return Outcome(image, found, mistaken)


def confusion_matrix(outcomes: Sequence[Outcome], num_classes: int) -> np.ndarray:
    """int (K + 1, K + 1): rows are true classes, columns detected ones, the last is background.

    An object that nothing lies on counts in the last column, a false detection in the last row.
    """
    matrix = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)
    for outcome in outcomes:
        image = outcome.image
        truth, said = image.true_labels - 1, image.labels - 1
        np.add.at(matrix, (truth[outcome.found[outcome.right]], said[outcome.right]), 1)
        np.add.at(matrix, (truth[outcome.mistaken[outcome.confused]], said[outcome.confused]), 1)
        np.add.at(matrix, (truth[outcome.missed], num_classes), 1)
        np.add.at(matrix, (num_classes, said[outcome.false]), 1)
    return matrix
