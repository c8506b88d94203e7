"""Class names of annotations: which there are, how often, and which look like mistakes."""

from __future__ import annotations

import difflib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from data.dataset import Annotation
from data.remarks import Notes

FAR_MORE = 10  # times the objects
NEARLY = 0.75  # of difflib's similarity: one letter in four, or two exchanged
# Comparing letter with letter and name with name takes its time.
LONGEST_COMPARED = 80  # characters
MOST_PAIRS = 10_000


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
    notes.count_all("classes without an object in the training split", untrained)
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in class_names:
        spellings[name.casefold()].append(name)
    twins = [" / ".join(same) for same in spellings.values() if len(same) > 1]
    notes.count_all("classes that differ only in capitals are taken as different", twins)
    counts = Counter(trained) + Counter(validated)
    for name, near in _likely_meant(counts):
        notes.warn(
            f"a class that may be misspelt: {name!r} in {counts[name]} object(s); did you mean "
            f"{near!r}, which {counts[near]} have?"
        )


def _likely_meant(counts: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Names with a far more frequent one that is nearly the same; numbers tell classes apart."""
    compared = {name: n for name, n in counts.items() if len(name) <= LONGEST_COMPARED}
    pairs = 0
    for name, count in compared.items():
        frequent = [other for other, n in compared.items() if n >= FAR_MORE * count]
        pairs += len(frequent)
        if pairs > MOST_PAIRS:
            return
        others = [other for other in frequent if _letters(other) != _letters(name)]
        for near in difflib.get_close_matches(name, others, n=1, cutoff=NEARLY):
            yield name, near


def _letters(name: str) -> str:
    return re.sub(r"\d", "", name).casefold()
