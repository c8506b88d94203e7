"""How the class names that a detector predicts agree with the annotated ones.

Only the highest-scoring detection on each object is looked at, so that a failure to detect objects
and a failure to name them are kept apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Fewer detected objects say nothing about names.
ENOUGH_DETECTED, ENOUGH_OF_A_CLASS = 20, 10
# CLEARLY_MORE: how much larger a wrong name's share must be in one class than in all others.
# NEAR_CHANCE: how close to chance the share of correct names counts as chance.
CLEARLY_MORE, NEAR_CHANCE = 0.3, 0.1
# Where the classes are so unequal, a good detector is hardly better than chance either.
CHANCE_TOO_HIGH = 0.75
NEARLY_ALL = 0.9


@dataclass(frozen=True)
class ClassConfusion:
    """Classes are rows of the matrix, from 0.

    detected: objects with a detection on them. correct: those whose name is predicted. chance:
    share that would be correct if the predicted names were dealt to the objects in random order.
    exchanged: cycles of classes, each of which is called like the next. called: (annotated,
    predicted) pairs of the other classes that mostly have one wrong name. at_chance: whether the
    share of correct names is the one of chance, with enough objects and no such pairs to explain
    it. only_name: the class that nearly everything is called.
    """

    detected: int
    correct: int
    chance: float
    exchanged: tuple[tuple[int, ...], ...]
    called: tuple[tuple[int, int], ...]
    at_chance: bool
    only_name: int | None


def class_confusion(matrix: Sequence[Sequence[int]]) -> ClassConfusion:
    """matrix: K rows of K counts, annotated class by predicted class."""
    counts = np.asarray(matrix, dtype=np.int64).reshape(len(matrix), len(matrix))
    detected, correct = int(counts.sum()), int(np.trace(counts))
    annotated, predicted = counts.sum(axis=1), counts.sum(axis=0)
    chance = float(annotated @ predicted) / detected**2 if detected else math.nan
    wrong = _wrong_names(counts)
    cycles = _cycles(wrong)
    explained = sum(int(counts[pair]) for pair in wrong.items())
    most = int(predicted.argmax()) if detected else 0
    return ClassConfusion(
        detected=detected,
        correct=correct,
        chance=chance,
        exchanged=cycles,
        called=tuple((k, name) for k, name in wrong.items() if all(k not in c for c in cycles)),
        at_chance=detected >= ENOUGH_DETECTED
        # With a single annotated class every share is the one of chance, a perfect one too.
        and int(np.count_nonzero(annotated)) > 1
        and 2 * explained < detected
        and chance < CHANCE_TOO_HIGH
        and abs(correct / detected - chance) < NEAR_CHANCE,
        only_name=most if detected and predicted[most] >= NEARLY_ALL * detected else None,
    )


def _wrong_names(counts: np.ndarray) -> dict[int, int]:
    """From each class that is called another one to that one.

    More than half of its objects have the other's name, and a clearly larger share than of the
    objects of all other classes.
    """
    wrong = {}
    for annotated, row in enumerate(counts):
        name, objects = int(row.argmax()), int(row.sum())
        if name == annotated or objects < ENOUGH_OF_A_CLASS or 2 * row[name] <= objects:
            continue
        others = np.delete(counts, annotated, axis=0)
        share_of_others = others[:, name].sum() / max(1, others.sum())
        if row[name] / objects >= share_of_others + CLEARLY_MORE:
            wrong[annotated] = name
    return wrong


def _cycles(wrong: dict[int, int]) -> tuple[tuple[int, ...], ...]:
    """The cycles of a map, each from its smallest member."""
    cycles = []
    for start in sorted(wrong):
        path = [start]
        while (last := wrong.get(path[-1])) is not None and last not in path:
            path.append(last)
        if last == start == min(path):
            cycles.append(tuple(path))
    return tuple(cycles)
