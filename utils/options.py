"""The parts that the table of ``Config`` is made of: options, parsers of their texts, checks."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from utils.errors import did_you_mean


@dataclass(frozen=True)
class Option:
    """What the command line needs to know of one field of ``Config``.

    parse: text of the flag to value; raises ValueError with what was expected.
    check: says in words what is wrong with a value, or nothing. is_switch: the flag alone, with
    no value after it, means True.
    """

    help: str
    parse: Callable[[str], Any]
    short: str = ""
    group: str = ""
    metavar: str = ""
    check: Callable[[Any], str | None] | None = None
    is_switch: bool = False


def parse_bool(text: str) -> bool:
    """true, yes, 1 and false, no, 0, in any case."""
    word = text.strip().lower()
    if word in ("true", "yes", "1"):
        return True
    if word in ("false", "no", "0"):
        return False
    raise ValueError("expected True or False")


def parse_int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("expected a whole number") from None


def parse_float(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError("expected a number") from None
    if not math.isfinite(value):
        raise ValueError("expected a finite number")
    return value


def parse_text(text: str) -> str:
    if not text.strip():
        raise ValueError("expected a value")
    return text


HOW_LONG = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>m|min|minutes?|steps?)?")


def parse_how_long(text: str) -> str:
    """``auto``, ``off``, minutes (``3``, ``0.5``) or steps (``400steps``)."""
    word = text.strip().lower()
    match = HOW_LONG.fullmatch(word)
    if word in ("auto", "off") or (match and float(match["number"]) > 0):
        return word
    raise ValueError("expected auto, off, minutes such as 3, or steps such as 400steps")


def one_of(*choices: str) -> Callable[[str], str]:
    """A parser of one of ``choices``."""

    def parse(text: str) -> str:
        word = text.strip().lower()
        if word not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}{did_you_mean(word, choices)}")
        return word

    return parse


def at_least(low: float, unit: str = "") -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        return None if value >= low else f"expected at least {low:g}{unit}"

    return check


def more_than(low: float, unit: str = "") -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        return None if value > low else f"expected more than {low:g}{unit}"

    return check


def between(low: float, high: float) -> Callable[[Any], str | None]:
    """At least ``low`` and below ``high``."""

    def check(value: Any) -> str | None:
        return None if low <= value < high else f"expected {low:g} to below {high:g}"

    return check
