"""What became of each object and each detection."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.metrics.coco import CocoEvaluation
from evaluation.metrics.operating_point import OperatingPoints
from evaluation.metrics.outcomes import Outcome, confusion_matrix, outcomes
from evaluation.metrics.results import ImageResult
from tests.image_results import CLASSES, random_results, result, with_truth

BOX, ELSEWHERE, NOWHERE = [10, 10, 60, 60], [100, 100, 160, 160], [200, 10, 230, 40]
NEAR = [12, 10, 62, 60]  # IoU 0.92 with BOX


def judged(image: ImageResult, threshold: float = 0.5) -> Outcome:
    return outcomes(CocoEvaluation([image], CLASSES), threshold)[0]


def matrix(image: ImageResult, threshold: float = 0.5) -> list[list[int]]:
    return confusion_matrix([judged(image, threshold)], len(CLASSES)).tolist()


def test_detections_and_objects_are_each_of_one_kind() -> None:
    image = result(
        true=[BOX, ELSEWHERE, [300, 300, 350, 350]],
        true_labels=[1, 2, 3],
        found=[BOX, ELSEWHERE, NOWHERE],
        labels=[1, 3, 1],
    )
    outcome = judged(image)
    assert outcome.true_positive.tolist() == [True, False, False]
    assert outcome.confused.tolist() == [False, True, False]
    assert outcome.false_positive.tolist() == [False, False, True]
    assert outcome.detected.tolist() == [True, False, False]
    assert outcome.missed.tolist() == [False, False, True]
    assert matrix(image) == [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]]


def test_the_right_class_takes_the_object_from_a_wrong_one_of_a_higher_score() -> None:
    image = result(true=[BOX], found=[BOX, NEAR], labels=[2, 1], scores=[0.9, 0.6])
    assert matrix(image) == [[1, 0, 0, 0], [0] * 4, [0] * 4, [0, 1, 0, 0]]


def test_below_the_threshold_the_right_class_leaves_the_object_to_a_wrong_one() -> None:
    image = result(true=[BOX], found=[BOX, NEAR], labels=[2, 1], scores=[0.9, 0.4])
    assert matrix(image) == [[0, 1, 0, 0], [0] * 4, [0] * 4, [0] * 4]


def test_of_two_wrong_classes_the_one_of_the_higher_score_is_the_confusion() -> None:
    image = result(true=[BOX], found=[NEAR, BOX], labels=[2, 3], scores=[0.6, 0.9])
    outcome = judged(image)
    assert outcome.confused.tolist() == [False, True]
    assert outcome.false_positive.tolist() == [True, False]


def test_a_wrong_class_takes_the_object_of_the_highest_iou() -> None:
    image = result(true=[NEAR, BOX], found=[BOX], labels=[2])
    assert judged(image).confused_object.tolist() == [1]
    assert judged(image).missed.tolist() == [True, False]


def test_a_second_detection_of_a_found_object_is_false() -> None:
    image = result(true=[BOX], found=[BOX, NEAR], scores=[0.9, 0.8])
    assert judged(image).false_positive.tolist() == [False, True]


def test_less_than_half_overlap_is_a_miss_and_a_false_detection() -> None:
    image = result(true=[BOX], found=[[35, 10, 85, 60]], labels=[2])
    assert matrix(image) == [[0, 0, 0, 1], [0] * 4, [0] * 4, [0, 1, 0, 0]]


def test_difficult_objects_and_what_lies_on_them_count_nowhere() -> None:
    alone = result(true=[BOX], found=[BOX], difficult=[True])
    confused = result(true=[BOX], found=[BOX], labels=[2], difficult=[True])
    assert matrix(alone) == [[0] * 4] * 4
    assert matrix(confused) == [[0] * 4, [0] * 4, [0] * 4, [0, 1, 0, 0]]
    assert not judged(confused).missed.any()


@pytest.mark.parametrize("seed", range(4))
def test_the_matrix_agrees_with_the_rates_and_the_data(seed: int) -> None:
    evaluation = CocoEvaluation(random_results(seed), CLASSES)
    for threshold in (0.05, 0.5):
        judged_all = outcomes(evaluation, threshold)
        counts = confusion_matrix(judged_all, len(CLASSES))
        rates = OperatingPoints(evaluation).classes(threshold)
        assert counts[:-1].sum(axis=1).tolist() == list(evaluation.objects.values())
        detected = [r.true_positives + r.false_positives for r in rates.values()]
        assert counts[:, :-1].sum(axis=0).tolist() == detected
        right = [r.true_positives for r in rates.values()]
        assert np.diag(counts)[:-1].tolist() == right
        assert counts[-1, -1] == 0


def test_images_without_objects_or_detections_are_ordinary() -> None:
    for image in (result(), result(true=[BOX]), result(found=[BOX])):
        outcome = judged(image)
        assert len(outcome.missed) == len(image.ground_truth)
        assert len(outcome.false_positive) == len(image.detections)
    assert confusion_matrix([], 3).sum() == 0


def test_every_detection_in_a_crowd_of_its_class_is_ignored() -> None:
    inside = [[x, 10, x + 20, 30] for x in (10, 40, 70)]
    image = result(
        true=[[0, 0, 100, 100], ELSEWHERE],
        found=[*inside, [90, 10, 140, 30]],
        labels=[1, 1, 2, 1],
        difficult=[True, False],
    )
    outcome = judged(with_truth(image, crowd=np.array([True, False])))
    assert outcome.false_positive.tolist() == [False, False, True, True]
    assert outcome.missed.tolist() == [False, True]
