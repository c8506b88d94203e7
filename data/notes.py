"""What was found while a data set was read: dropped, repaired, assumed, wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum

from utils.errors import UserError

# Of each kind the first places are kept: enough to work through, and bounded for any data set.
KEPT_PLACES = 10_000
WRONG = "what has to be corrected"


class Severity(Enum):
    """What a remark means for training."""

    NOTE = "note"  # as it should be; said so that nothing is silent
    WARNING = "warning"  # training goes on with something dropped, repaired or doubtful
    BAD_IMAGE = "bad image"  # refused, or left out where the user says so
    ERROR = "error"  # refused


@dataclass
class Remark:
    """Events of one kind. count: how many, 0 for a remark that stands for itself.

    places: file and object of each, at most ``KEPT_PLACES``.
    """

    severity: Severity
    what: str
    count: int = 0
    places: list[str] = field(default_factory=list)

    def line(self, limit: int = 1) -> str:
        """``what: 12 (e.g. a.xml, object 1)``."""
        if not self.count:
            return self.what
        shown = f"e.g. {self.places[0]}" if limit == 1 else listed(self.places, limit)
        return f"{self.what}: {self.count} ({shown})"


class Notes:
    """Remarks for the user, in the order in which they first came up.

    collecting: errors are remarks as well, so that all can be shown at once; ``refuse`` raises
    them. Otherwise the first error is raised at once.
    """

    def __init__(self, *, collecting: bool = False) -> None:
        self.collecting = collecting
        self._remarks: dict[tuple[Severity, str], Remark] = {}

    @property
    def remarks(self) -> list[Remark]:
        return list(self._remarks.values())

    def say(self, line: str) -> None:
        """A remark that stands for itself; said twice it is shown once."""
        self._remark(Severity.NOTE, line)

    def warn(self, line: str) -> None:
        """As ``say``, of something that a user should look at."""
        self._remark(Severity.WARNING, line)

    def count(self, what: str, where: str, severity: Severity = Severity.WARNING) -> None:
        """One more event of the kind ``what``, seen at ``where``."""
        remark = self._remark(severity, what)
        remark.count += 1
        if len(remark.places) < KEPT_PLACES:
            remark.places.append(where)

    def error(self, message: str) -> None:
        """Something that only the user can put right. Raises UserError unless collecting."""
        if not self.collecting:
            raise UserError(message)
        self.count(WRONG, message, Severity.ERROR)

    @contextmanager
    def catching(self) -> Iterator[None]:
        """A UserError raised inside becomes an ``error``, and what follows inside is skipped."""
        try:
            yield
        except UserError as error:
            if not self.collecting:
                raise
            self.error(str(error))

    def of(self, *severities: Severity) -> list[Remark]:
        return [remark for remark in self.remarks if remark.severity in severities]

    def refuse(self, where: str, *, skip_bad_images: bool, hint: str = "") -> None:
        """Raise UserError for what training cannot go on with, in one line.

        where: the data set. hint: what may explain missing images.
        """
        bad = [] if skip_bad_images else self.of(Severity.BAD_IMAGE)
        errors = self.of(Severity.ERROR)
        others = sum(remark.count for remark in errors)
        # Images that are missing explain a split that is empty, and not the other way round.
        if bad:
            told = "; ".join(f"{r.count} {r.what}: {listed(r.places)}" for r in bad)
            message = (
                f"{where}: {told.replace(f'{where}/', '')}. Restore or replace them, or give "
                f"--on-bad-image skip to leave them out.{hint}"
            )
        elif errors:
            message = errors[0].places[0]
            others -= 1
        else:
            return
        raise UserError(message + (f" ({others} more; --check shows all)" if others else ""))

    def lines(self) -> tuple[str, ...]:
        """Every remark that does not keep training from starting, as one line."""
        return tuple(r.line(3 if r.severity is Severity.BAD_IMAGE else 1) for r in self.remarks)

    def _remark(self, severity: Severity, what: str) -> Remark:
        return self._remarks.setdefault((severity, what), Remark(severity, what))


def listed(items: Iterable[object], limit: int = 10) -> str:
    """``a, b, c and 4 more``: enough to find the fault, short enough for one line."""
    texts: Sequence[str] = [str(item) for item in items]
    rest = len(texts) - limit
    return ", ".join(texts[:limit]) + (f" and {rest} more" if rest > 0 else "")
