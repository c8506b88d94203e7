"""One finding of a diagnosis, and how figures and names are put into words."""

from __future__ import annotations

import math
from dataclasses import dataclass

LONGEST_NAME = 40
MOST_LISTED = 4


@dataclass(frozen=True)
class Finding:
    """severity: fraction 0..1, an estimate of the share of the objects that is lost by it.

    title: the cause, in plain words. evidence: one sentence with the figures that were
    measured. advice: one sentence, what to do. Names of classes in them are untrusted text.
    """

    severity: float
    title: str
    evidence: str
    advice: str


def percent(fraction: float) -> str:
    """``0.974`` to ``97 %``; only exact values give 0 % and 100 %."""
    if math.isnan(fraction):
        return "n/a"
    if 0 < fraction < 0.01:
        return "under 1 %"
    if 0.99 < fraction < 1:
        return "over 99 %"
    return f"{100 * fraction:.0f} %"


def number(count: int, what: str, plural: str = "s") -> str:
    """``1 object``, ``12 objects``, ``3 boxes``."""
    return f"{count} {what}" + ("" if count == 1 else plural)


def quoted(name: str) -> str:
    return f"'{name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 3] + '...'}'"
