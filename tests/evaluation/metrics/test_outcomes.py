"""What became of each object and each detection."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.metrics.coco import CocoEvaluation
from evaluation.metrics.operating_point import OperatingPoints
from evaluation.metrics.outcomes import confusion_matrix, outcomes
from evaluation.metrics.results import ImageResult
from tests.image_results import CLASSES, random_results, result, with_truth

BOX, ELSEWHERE, NOWHERE = [10, 10, 60, 60], [100, 100, 160, 160], [200, 10, 230, 40]
NEAR = [12, 10, 62, 60]  # IoU 0.92 with BOX
NONE = 3  # the row and the column of background
MIXED = result(
    true=[BOX, ELSEWHERE, [300, 300, 350, 350]],
    true_labels=[1, 2, 3],
    found=[BOX, ELSEWHERE, NOWHERE],
    labels=[1, 3, 1],
)
CROWD = result(
    true=[[0, 0, 100, 100], ELSEWHERE],
    found=[[10, 10, 30, 30], [40, 10, 60, 30], [70, 10, 90, 30], [90, 10, 140, 30]],
    labels=[1, 1, 2, 1],
    difficult=[True, False],
)
# Images, and the counts of their confusion matrix that are not 0.
CASES = {
    "one of each kind": (MIXED, {(0, 0): 1, (1, 2): 1, (2, NONE): 1, (NONE, 0): 1}),
    "the right class takes the object from a wrong one of a higher score": (
        result(true=[BOX], found=[BOX, NEAR], labels=[2, 1], scores=[0.9, 0.6]),
        {(0, 0): 1, (NONE, 1): 1},
    ),
    "below the threshold the right class leaves the object to a wrong one": (
        result(true=[BOX], found=[BOX, NEAR], labels=[2, 1], scores=[0.9, 0.4]),
        {(0, 1): 1},
    ),
    "of two wrong classes the one of the higher score is the confusion": (
        result(true=[BOX], found=[NEAR, BOX], labels=[2, 3], scores=[0.6, 0.9]),
        {(0, 2): 1, (NONE, 1): 1},
    ),
    "a wrong class takes the object of the highest IoU": (
        result(true=[NEAR, BOX], true_labels=[1, 3], found=[BOX], labels=[2]),
        {(2, 1): 1, (0, NONE): 1},
    ),
    "a second detection of an object is false": (
        result(true=[BOX], found=[BOX, NEAR], scores=[0.9, 0.8]),
        {(0, 0): 1, (NONE, 0): 1},
    ),
    "less than half overlap is a miss and a false detection": (
        result(true=[BOX], found=[[35, 10, 85, 60]], labels=[2]),
        {(0, NONE): 1, (NONE, 1): 1},
    ),
    "a difficult object counts nowhere": (result(true=[BOX], found=[BOX], difficult=[True]), {}),
    "a wrong class on it is false": (
        result(true=[BOX], found=[BOX], labels=[2], difficult=[True]),
        {(NONE, 1): 1},
    ),
    "every detection in a crowd of its class is ignored": (
        with_truth(CROWD, crowd=np.array([True, False])),
        {(NONE, 0): 1, (NONE, 1): 1, (0, NONE): 1},
    ),
    "neither object nor detection": (result(), {}),
    "no detection": (result(true=[BOX]), {(0, NONE): 1}),
    "no object": (result(found=[BOX]), {(NONE, 0): 1}),
}


@pytest.mark.parametrize(("image", "counts"), CASES.values(), ids=CASES)
def test_a_case_worked_by_hand(image: ImageResult, counts: dict[tuple[int, int], int]) -> None:
    matrix = confusion_matrix(outcomes(CocoEvaluation([image], CLASSES), 0.5), len(CLASSES))
    assert {tuple(index): matrix[tuple(index)] for index in np.argwhere(matrix)} == counts


def test_detections_and_objects_are_each_of_one_kind() -> None:
    (outcome,) = outcomes(CocoEvaluation([MIXED], CLASSES), 0.5)
    assert outcome.true_positive.tolist() == [True, False, False]
    assert outcome.confused.tolist() == [False, True, False]
    assert outcome.false_positive.tolist() == [False, False, True]
    assert outcome.detected.tolist() == [True, False, False]
    assert outcome.missed.tolist() == [False, False, True]


@pytest.mark.parametrize("seed", range(4))
def test_the_matrix_agrees_with_the_rates_and_the_data(seed: int) -> None:
    evaluation = CocoEvaluation(random_results(seed), CLASSES)
    for threshold in (0.05, 0.5):
        counts = confusion_matrix(outcomes(evaluation, threshold), len(CLASSES))
        rates = OperatingPoints(evaluation).classes(threshold).values()
        assert counts[:-1].sum(axis=1).tolist() == list(evaluation.objects.values())
        detected = [r.true_positives + r.false_positives for r in rates]
        assert counts[:, :-1].sum(axis=0).tolist() == detected
        assert np.diag(counts)[:-1].tolist() == [r.true_positives for r in rates]
        assert counts[-1, -1] == 0
