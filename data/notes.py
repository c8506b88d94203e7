"""What was dropped, repaired or assumed while reading: counted, and said in one line each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class Notes:
    """Remarks for the user, in the order in which they first came up.

    Events of one kind are counted and reported together, with the first one as an example.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._examples: dict[str, str] = {}

    def count(self, what: str, where: str) -> None:
        """One more event of the kind ``what``, seen at ``where``."""
        self._counts[what] = self._counts.get(what, 0) + 1
        self._examples.setdefault(what, where)

    def say(self, line: str) -> None:
        """A remark that stands for itself; said twice it is shown once."""
        self._counts.setdefault(line, 0)

    def lines(self) -> tuple[str, ...]:
        """Every remark as one line."""
        return tuple(
            f"{what}: {count} (e.g. {self._examples[what]})" if count else what
            for what, count in self._counts.items()
        )


def listed(items: Iterable[object], limit: int = 10) -> str:
    """``a, b, c and 4 more``: enough to find the fault, short enough for one line."""
    texts: Sequence[str] = [str(item) for item in items]
    rest = len(texts) - limit
    return ", ".join(texts[:limit]) + (f" and {rest} more" if rest > 0 else "")
