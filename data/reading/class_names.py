"""Class names of annotations: which there are, how often, and which look like mistakes."""

from __future__ import annotations

import difflib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from data.dataset import Annotation
from data.remarks import Remarks

FAR_MORE = 10  # times the objects
NEARLY = 0.75  # of difflib's similarity: one letter in four, or two exchanged
# Each letter is compared with each letter and each name with each name, which takes time.
LONGEST_COMPARED = 80  # characters
MOST_PAIRS = 10_000


def occurring_names(*annotations: Annotation) -> list[str]:
    """The class names that occur, sorted."""
    return sorted({name for a in annotations for name in a.names})


def name_counts(annotations: Sequence[Annotation]) -> Counter[str]:
    """Objects per class name."""
    return Counter(name for a in annotations for name in a.names)


def remark_names(
    class_names: Sequence[str],
    trained: Mapping[str, int],
    validated: Mapping[str, int],
    remarks: Remarks,
) -> None:
    """Warn of classes without a training object, and of names that may mean the same class.

    trained, validated: objects per class name in either split.
    """
    untrained = [name for name in class_names if not trained.get(name)]
    remarks.count_all("classes without an object in the training split", untrained)
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in class_names:
        spellings[name.casefold()].append(name)
    twins = [" / ".join(same) for same in spellings.values() if len(same) > 1]
    remarks.count_all("classes that differ only in capitals are taken as different", twins)
    counts = Counter(trained) + Counter(validated)
    for name, similar in _likely_meant(counts):
        remarks.warn(
            f"a class that may be misspelt: {name!r} in {counts[name]} object(s); did you mean "
            f"{similar!r}, which {counts[similar]} have?"
        )


def _likely_meant(counts: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """(name, far more frequent name that nearly equals it); numbers tell classes apart."""
    compared = {name: n for name, n in counts.items() if len(name) <= LONGEST_COMPARED}
    pairs = 0
    for name, count in compared.items():
        frequent = [other for other, n in compared.items() if n >= FAR_MORE * count]
        pairs += len(frequent)
        if pairs > MOST_PAIRS:
            return
        others = [other for other in frequent if _letters(other) != _letters(name)]
        for similar in difflib.get_close_matches(name, others, n=1, cutoff=NEARLY):
            yield name, similar


def _letters(name: str) -> str:
    return re.sub(r"\d", "", name).casefold()
