"""Class names of annotations: which there are, how often, and which look like mistakes."""

from __future__ import annotations

import difflib
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from data.dataset import Annotation
from data.notes import Notes, listed

FAR_MORE = 10  # times the objects
NEARLY = 0.75  # of difflib's similarity: one letter in four, or two exchanged
MANY_CLASSES = 300  # comparing each with each would take its time


def found_names(*annotations: Annotation) -> list[str]:
    """The class names that occur, sorted."""
    return sorted({name for a in annotations for name in a.names})


def name_counts(annotations: Sequence[Annotation]) -> Counter[str]:
    """Objects a class name."""
    return Counter(name for a in annotations for name in a.names)


def remark_names(
    class_names: Sequence[str],
    trained: Mapping[str, int],
    validated: Mapping[str, int],
    notes: Notes,
) -> None:
    """Warn of classes that nothing teaches, and of names that may be meant to be one.

    trained, validated: objects a class name in either split.
    """
    untrained = [name for name in class_names if not trained.get(name)]
    if untrained:
        notes.warn(f"classes without an object in the training split: {listed(untrained)}")
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in class_names:
        spellings[name.casefold()].append(name)
    twins = [" / ".join(same) for same in spellings.values() if len(same) > 1]
    if twins:
        notes.warn(f"classes that differ only in capitals are taken as different: {listed(twins)}")
    counts = Counter(trained) + Counter(validated)
    for name in class_names if len(class_names) <= MANY_CLASSES else ():
        near = _likely_meant(name, counts)
        if near:
            notes.warn(
                f"a class that may be misspelt: {name!r} in {counts[name]} object(s); did you mean "
                f"{near!r}, which {counts[near]} have?"
            )


def _likely_meant(name: str, counts: Mapping[str, int]) -> str | None:
    """A far more frequent class of nearly the same name; numbers tell classes apart."""
    frequent = [n for n, count in counts.items() if count >= FAR_MORE * counts[name] > 0]
    others = [n for n in frequent if _letters(n) != _letters(name)]
    return next(iter(difflib.get_close_matches(name, others, n=1, cutoff=NEARLY)), None)


def _letters(name: str) -> str:
    return re.sub(r"\d", "", name).casefold()
