"""What came up while a data set was read: dropped, repaired, assumed, wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum

from utils.errors import LONGEST_LIST, UserError, shortened
from utils.text import listed

# Of each kind the first places are kept: enough to work through, and bounded for any data set.
KEPT_PLACES = 10_000
CHECK_HINT = "--check lists all"
WRONG = "what has to be corrected"


class Severity(Enum):
    """What a remark means for training."""

    NOTE = "note"  # as it should be; shown so that nothing is silent
    WARNING = "warning"  # training goes on with something dropped, repaired or doubtful
    BAD_IMAGE = "bad image"  # refused, or left out where the user chooses to
    ERROR = "error"  # refused


@dataclass
class Remark:
    """Events of one kind. count: how many, 0 for a remark that stands for itself.

    places: file and object of each, at most ``KEPT_PLACES``. lists_places: whether a line names
    them, and not only one as an example.
    """

    severity: Severity
    what: str
    count: int = 0
    places: list[str] = field(default_factory=list)
    lists_places: bool = False

    def line(self) -> str:
        """``what: 12 (e.g. a.xml, object 1)``, or with the first ``LISTED`` of the places."""
        if not self.count:
            return self.what
        shown = self.listing() if self.lists_places else f"e.g. {self.places[0]}"
        return f"{self.what}: {self.count} ({shown})"

    def listing(self, folder: str = "") -> str:
        """The places, those inside of ``folder`` without its path."""
        places = (place.replace(f"{folder}/", "") if folder else place for place in self.places)
        return listed(places, hint=CHECK_HINT, count=self.count)


class Remarks:
    """Remarks for the user, one for each kind of event, in the order in which they first came up.

    Errors are collected too, so that all can be shown at once; ``refuse`` raises them.
    """

    def __init__(self) -> None:
        self._remarks: dict[tuple[Severity, str], Remark] = {}

    def __iter__(self) -> Iterator[Remark]:
        return iter(self._remarks.values())

    def note(self, line: str) -> None:
        """A remark that stands for itself; a repeated one is shown once."""
        self._remark(Severity.NOTE, shortened(line, LONGEST_LIST))

    def warn(self, line: str) -> None:
        """As ``note``, of something that a user should look at."""
        self._remark(Severity.WARNING, shortened(line, LONGEST_LIST))

    def count(self, what: str, where: str, severity: Severity = Severity.WARNING) -> None:
        """One more event of the kind ``what``, seen at ``where``."""
        remark = self._remark(severity, shortened(what))
        remark.count += 1
        if len(remark.places) < KEPT_PLACES:
            remark.places.append(shortened(where))

    def count_all(
        self, what: str, places: Sequence[str], severity: Severity = Severity.WARNING
    ) -> None:
        """As ``count`` for each of ``places``, which the remark's line names. None: no remark."""
        for place in places:
            self.count(what, place, severity)
            self._remark(severity, shortened(what)).lists_places = True

    def error(self, message: str) -> None:
        """Something that only the user can correct."""
        self.count(WRONG, message, Severity.ERROR)

    @contextmanager
    def catch_errors(self) -> Iterator[None]:
        """A UserError raised inside becomes an ``error``, and what follows inside is skipped."""
        try:
            yield
        except UserError as error:
            self.error(str(error))

    def refuse(self, where: str, *, skip_bad_images: bool, hint: str = "") -> None:
        """Raise UserError for what training cannot go on with, in one line.

        where: the data set. hint: what may explain missing images.
        """
        errors = [remark for remark in self if remark.severity is Severity.ERROR]
        bad = [remark for remark in self if remark.severity is Severity.BAD_IMAGE]
        others = sum(remark.count for remark in errors)
        # Images that are missing explain a split that is empty, and not the other way round.
        if bad and not skip_bad_images:
            images = "; ".join(_summary(remark, where) for remark in bad)
            message = (
                f"{where}: {images}. Restore or replace them, or give --on-bad-image skip to leave "
                f"them out.{hint}"
            )
        elif errors:
            first = errors[0]
            message, shown = first.places[0], 1
            if first.lists_places:
                message, shown = f"{where}: {_summary(first, where)}", first.count
            others -= shown
        else:
            return
        more = f" ({others} more; {CHECK_HINT})" if others else ""
        raise UserError(message + more, longest=LONGEST_LIST)

    def lines(self) -> tuple[str, ...]:
        """Every remark as one line."""
        return tuple(remark.line() for remark in self)

    def _remark(self, severity: Severity, what: str) -> Remark:
        # Which images a run does without is never only an example.
        lists_places = severity is Severity.BAD_IMAGE
        remark = Remark(severity, what, lists_places=lists_places)
        return self._remarks.setdefault((severity, what), remark)


def _summary(remark: Remark, folder: str) -> str:
    what = remark.what.replace(f"{folder}/", "")
    return f"{remark.count} {what}: {remark.listing(folder)}"
