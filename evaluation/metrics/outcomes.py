"""What became of each object and each detection at one score threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.metrics.box_ops import iou
from evaluation.metrics.coco import FALSE_POSITIVE, CocoEvaluation
from evaluation.metrics.results import ImageResult

SAME_PLACE = 0.5  # IoU


@dataclass(frozen=True, eq=False)
class Outcome:
    """One image at one threshold; ``result`` holds the M detections above it and the N objects.

    matched_object: int (M,), the object of a true positive, else ``FALSE_POSITIVE`` or ``IGNORED``.
    confused_object: int (M,), the object of another class that a detection lies on and that no
    detection of its own class matches, else ``FALSE_POSITIVE``.
    """

    result: ImageResult
    matched_object: np.ndarray
    confused_object: np.ndarray

    def ordered(self, order: np.ndarray) -> Outcome:
        """The same with its detections in another order: int (M,)."""
        result = self.result.with_detections(self.result.detections.keep(order))
        return Outcome(result, self.matched_object[order], self.confused_object[order])

    @property
    def true_positive(self) -> np.ndarray:
        """bool (M,)."""
        return self.matched_object >= 0

    @property
    def confused(self) -> np.ndarray:
        """bool (M,): on an object, with the wrong class."""
        return self.confused_object >= 0

    @property
    def false_positive(self) -> np.ndarray:
        """bool (M,): on no object, or on one that another detection has already; not confused."""
        return (self.matched_object == FALSE_POSITIVE) & ~self.confused

    @property
    def detected(self) -> np.ndarray:
        """bool (N,): objects of the true positives."""
        return np.isin(np.arange(len(self.result.ground_truth)), self.matched_object)

    @property
    def missed(self) -> np.ndarray:
        """bool (N,): objects neither detected nor confused, difficult ones left out."""
        truth = self.result.ground_truth
        confused = np.isin(np.arange(len(truth)), self.confused_object)
        return ~(self.detected | confused | truth.difficult)


def outcomes(evaluation: CocoEvaluation, threshold: float) -> list[Outcome]:
    """One per image of the evaluation.

    True positives are those of COCO's rule at IoU 0.5. Then the false positives, by descending
    score, are each compared with the objects that are left: one that overlaps such an object with
    IoU 0.5 or more is a confusion with it, of several with the one of the highest IoU.
    """
    judged = []
    for image, matched in zip(evaluation.results, evaluation.matched_objects, strict=True):
        # COCO's rule goes by descending score, so no match changes when lower scores are left out.
        above = image.detections.scores >= np.float32(threshold)
        image, matched = image.with_detections(image.detections.keep(above)), matched[above]
        judged.append(Outcome(image, matched, _confused_objects(image, matched)))
    return judged


def _confused_objects(image: ImageResult, matched: np.ndarray) -> np.ndarray:
    """``confused_object`` of ``Outcome``."""
    truth, detections = image.ground_truth, image.detections
    confused = np.full(len(matched), FALSE_POSITIVE)
    free = ~np.isin(np.arange(len(truth)), matched) & ~truth.difficult
    if not free.any():
        return confused
    overlap = iou(detections.boxes, truth.boxes)
    by_score = np.argsort(-detections.scores, kind="stable")
    for row in by_score[matched[by_score] == FALSE_POSITIVE]:
        candidates = np.where(free, overlap[row], 0.0)
        best = int(candidates.argmax())
        if candidates[best] >= SAME_PLACE:
            confused[row], free[best] = best, False
    return confused


def confusion_matrix(outcomes: Sequence[Outcome], num_classes: int) -> np.ndarray:
    """int (K + 1, K + 1): rows are annotated classes, columns predicted ones; last: background.

    A missed object counts in the last column, a false positive in the last row.
    """
    matrix = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)
    for outcome in outcomes:
        truth = outcome.result.ground_truth.labels - 1
        predicted = outcome.result.detections.labels - 1
        for objects in (outcome.matched_object, outcome.confused_object):
            rows = objects >= 0
            np.add.at(matrix, (truth[objects[rows]], predicted[rows]), 1)
        np.add.at(matrix, (truth[outcome.missed], num_classes), 1)
        np.add.at(matrix, (num_classes, predicted[outcome.false_positive]), 1)
    return matrix
