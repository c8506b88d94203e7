"""How the names that a detector gives go with the true ones.

The question is asked of the surest detection in the place of each object, so that finding objects
and naming them are told apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Fewer named objects say nothing about names.
ENOUGH_NAMES = 20
ENOUGH_OF_A_CLASS = 5
SIGNIFICANT = 1e-3
# Of kappa: 0 is chance, 1 is right. What may still be chance, and what no longer is.
NEAR_CHANCE, CLEARLY_BETTER = 0.1, 0.6
NEARLY_ALL = 0.9


@dataclass(frozen=True)
class Naming:
    """Classes are rows of the matrix, from 0.

    named: objects that were given a name. right: under their own. chance: share that would be
    right if each name were given as often as it is, but to any object. exchanged: circles of
    classes, each of which is called like the next. called: (true, said) pairs of the other classes
    that mostly have one wrong name. at_chance: the names go with the objects no better than
    chance, which is only said where there are enough of them. only_name: the class that nearly
    everything is called.
    """

    named: int
    right: int
    chance: float
    exchanged: tuple[tuple[int, ...], ...]
    called: tuple[tuple[int, int], ...]
    at_chance: bool
    only_name: int | None


def look_at_names(matrix: Sequence[Sequence[int]]) -> Naming:
    """matrix: K rows of K counts, true class by said class."""
    counts = np.asarray(matrix, dtype=np.int64).reshape(len(matrix), len(matrix))
    named, right = int(counts.sum()), int(np.trace(counts))
    rows, columns = counts.sum(axis=1), counts.sum(axis=0)
    chance = float(rows @ columns) / named**2 if named else math.nan
    mostly = _mostly_called(counts)
    circles = _circles(mostly)
    inside = {k for circle in circles for k in circle}
    called = tuple((true, said) for true, said in mostly.items() if true not in inside)
    explained = sum(int(counts[true, said]) for true, said in mostly.items())
    only = int(columns.argmax()) if named else 0
    return Naming(
        named=named,
        right=right,
        chance=chance,
        exchanged=circles,
        called=called,
        # Of a single true class every name is at chance, the right one too.
        at_chance=len(rows.nonzero()[0]) > 1
        and 2 * explained < named
        and _is_chance(named, right, chance),
        only_name=only if named and columns[only] >= NEARLY_ALL * named else None,
    )


def _is_chance(named: int, right: int, chance: float) -> bool:
    """Whether Cohen's kappa is near zero, and sure enough not to be good."""
    if named < ENOUGH_NAMES or chance >= NEARLY_ALL:
        return False
    kappa = (right / named - chance) / (1 - chance)
    doubt = 2 * math.sqrt(chance * (1 - chance) / named) / (1 - chance)
    return abs(kappa) < max(NEAR_CHANCE, doubt) and kappa + doubt < CLEARLY_BETTER


def _mostly_called(counts: np.ndarray) -> dict[int, int]:
    """Classes most of whose objects have one wrong name, and far more than by chance."""
    shares = counts.sum(axis=0) / max(1, counts.sum())
    found = {}
    for true, row in enumerate(counts):
        said, length = int(row.argmax()), int(row.sum())
        most = int(row[said])
        wrong = said != true and length >= ENOUGH_OF_A_CLASS and 2 * most > length
        if wrong and _chance_of(most, length, float(shares[said])) < SIGNIFICANT:
            found[true] = said
    return found


def _chance_of(hits: int, tries: int, share: float) -> float:
    """At least so many hits: Chernoff's bound, never below the true probability."""
    rate = hits / tries
    if rate <= share:
        return 1.0
    divergence = rate * math.log(rate / share)
    if rate < 1:
        divergence += (1 - rate) * math.log((1 - rate) / (1 - share))
    return math.exp(-tries * divergence)


def _circles(step: dict[int, int]) -> tuple[tuple[int, ...], ...]:
    """The closed ways through a map, each from its smallest member."""
    found = []
    for start in sorted(step):
        way = [start]
        while (last := step.get(way[-1])) is not None and last not in way:
            way.append(last)
        if last == start and start == min(way):
            found.append(tuple(way))
    return tuple(found)
