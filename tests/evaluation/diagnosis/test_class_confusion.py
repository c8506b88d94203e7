"""Predicted names: exchanged, one called another, at chance, or mostly correct."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.diagnosis.class_confusion import ClassConfusion, class_confusion


def confusion_of(annotated: np.ndarray, predicted: np.ndarray, classes: int) -> ClassConfusion:
    matrix = np.zeros((classes, classes), int)
    np.add.at(matrix, (annotated, predicted), 1)
    return class_confusion(matrix.tolist())


def test_two_of_three_names_exchanged_are_not_called_chance() -> None:
    """A third is correct, as many as by chance: but the names do go with the objects."""
    confusion = class_confusion([[0, 50, 0], [50, 0, 0], [0, 0, 50]])
    assert confusion.correct / confusion.detected == pytest.approx(confusion.chance)
    assert confusion.exchanged == ((0, 1),) and not confusion.at_chance


def test_of_a_single_annotated_class_nothing_is_known_about_chance() -> None:
    assert not class_confusion(((0, 0, 0), (20, 60, 20), (0, 0, 0))).at_chance
    assert class_confusion(((20, 60, 20), (20, 60, 20), (0, 0, 0))).at_chance


def test_a_name_that_all_classes_get_accuses_none_of_them() -> None:
    confusion = class_confusion([[0, 30, 0], [0, 30, 0], [0, 30, 0]])
    assert confusion.only_name == 1 and confusion.at_chance
    assert not confusion.called and not confusion.exchanged


@pytest.mark.parametrize("objects, called", [(9, ()), (10, ((0, 1),))])
def test_a_class_with_few_objects_is_not_called_another(
    objects: int, called: tuple[tuple[int, int], ...]
) -> None:
    matrix = [[0, objects, 0], [0, 30, 0], [0, 0, 30]]
    assert class_confusion(matrix).called == called


def test_a_good_detector_of_very_unequal_classes_is_not_at_chance() -> None:
    for rare in (1, 5, 10, 20, 40):
        assert not class_confusion([[100 - rare, 0], [rare // 4, rare - rare // 4]]).at_chance


@pytest.mark.parametrize("classes", [2, 3, 6, 20])
def test_chance_follows_the_frequencies_of_the_labels(classes: int) -> None:
    random = np.random.default_rng(classes)
    weights = np.arange(1, classes + 1) / (classes * (classes + 1) / 2)
    at_chance = 0
    for _ in range(50):
        labels = random.choice(classes, (2, 200), p=weights)
        confusion = confusion_of(*labels, classes)
        assert confusion.chance == pytest.approx(float((weights**2).sum()), abs=0.1)
        assert not confusion.exchanged
        at_chance += confusion.at_chance
    assert at_chance >= 45


@pytest.mark.parametrize("share", [0.7, 0.85, 1.0])
@pytest.mark.parametrize("objects", [8, 20, 60, 400])
def test_names_that_are_mostly_correct_are_never_called_chance(share: float, objects: int) -> None:
    random = np.random.default_rng(objects)
    for _ in range(100):
        labels, others = random.integers(0, 3, (2, objects))
        predicted = np.where(random.random(objects) < share, labels, others)
        confusion = confusion_of(labels, predicted, 3)
        assert not confusion.at_chance and not confusion.exchanged
