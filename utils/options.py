"""The parts that the table of ``Config`` is made of: commands, options, parsers, checks."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from utils.errors import UserError, did_you_mean

KERNELS_APPLY = "only for fp32 on a CPU"  # those of model.cpu

MODELS = (
    *(f"efficientnet-b{i}" for i in range(8)),
    *(f"efficientnet-lite{i}" for i in range(5)),
    "resnet50",
)


class Command(Enum):
    """What the program is to do; the value is how a message names it."""

    TRAIN = "-t True"
    RESUME = "--resume"
    MONITOR = "-l"
    PREDICT = "--predict"
    CHECK = "--check"


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


@dataclass(frozen=True)
class Budget:
    """How long to train: so many steps, or minutes of wall time; with neither, as is fitting.

    No steps are no training. As a text it is what ``parse`` reads.
    """

    steps: int | None = None
    minutes: float | None = None

    @classmethod
    def parse(cls, text: str) -> Budget:
        """``auto``, ``off``, minutes (``3``, ``0.5``) or steps (``400steps``)."""
        word = text.strip().lower()
        if word in ("auto", "off"):
            return cls(steps=0 if word == "off" else None)
        form = r"(?P<number>\d+(\.\d+)?)\s*(m|min|minutes?|(?P<steps>steps?))?"
        match = re.fullmatch(form, word)
        number = float(match["number"]) if match else 0.0
        if match is None or not 0 < number < math.inf:
            raise ValueError("expected auto, off, minutes such as 3, or steps such as 400steps")
        return cls(steps=max(1, int(number))) if match["steps"] else cls(minutes=number)

    @property
    def is_auto(self) -> bool:
        return self.steps is None and self.minutes is None

    def progress(self, step: int, seconds: float) -> float:
        """0 at the start, 1 when the budget is spent."""
        if self.steps is not None:
            return step / max(1, self.steps)
        assert self.minutes is not None
        return seconds / (60 * self.minutes)

    def __str__(self) -> str:
        if self.minutes is not None:
            return f"{self.minutes:.12g} min"
        return "auto" if self.steps is None else f"{self.steps} steps" if self.steps else "off"


OFF = Budget(steps=0)


def shown(value: Any) -> str:
    """A value in a message, as it may be typed: ``60`` and not ``60.0``, ``400steps``."""
    if isinstance(value, Budget):
        return str(value).replace(" ", "")
    return f"{value:.12g}" if isinstance(value, float) else str(value)


PARSERS: dict[str, Callable[[str], Any]] = {
    "bool": parse_bool,
    "int": parse_int,
    "float": parse_float,
    "str": parse_text,
    "Budget": Budget.parse,
}


@dataclass(frozen=True)
class Option:
    """What the command line needs to know of one field of ``Config``.

    parse: text of the flag to value; raises ValueError with what was expected. By default the
    parser of the field's type. commands: which use it; another refuses it. With RESUME the value
    may change when a run goes on. check: says in words what is wrong with a value, or nothing.
    is_switch: the flag alone, with no value after it, means True.
    """

    help: str
    group: str = ""
    commands: tuple[Command, ...] = tuple(Command)
    check: Callable[[Any], str | None] | None = None
    parse: Callable[[str], Any] = parse_text
    short: str = ""
    metavar: str = ""
    is_switch: bool = False

    def of_type(self, annotation: str) -> Option:
        """With the parser of the field's type, ``int`` or ``int | None``, unless it has its own."""
        kind = annotation.removesuffix(" | None")
        parse = PARSERS[kind] if self.parse is parse_text else self.parse
        metavar = "BOOL" if kind == "bool" else self.metavar
        return replace(self, parse=parse, metavar=metavar)

    def refuse_bad(self, value: Any, flag: str) -> None:
        """Raise UserError for a value, None apart, that does not pass the check."""
        problem = self.check(value) if self.check and value is not None else None
        if problem:
            raise UserError(f"{flag} {shown(value)}: {problem}.")


def one_of(*choices: str) -> Callable[[str], str]:
    """A parser of one of ``choices``."""

    def parse(text: str) -> str:
        word = text.strip().lower()
        if word not in choices:
            raise ValueError(expected_one_of(choices, word))
        return word

    return parse


def expected_one_of(choices: tuple[str, ...], word: str) -> str:
    return f"expected one of {', '.join(choices)}{did_you_mean(word, choices)}"


def at_least(low: float, unit: str = "") -> Callable[[Any], str | None]:
    return lambda value: None if value >= low else f"expected at least {low:g}{unit}"


def zero_or_at_least(low: float, unit: str = "") -> Callable[[Any], str | None]:
    return lambda value: None if value == 0 else at_least(low, unit)(value)


def more_than(low: float) -> Callable[[Any], str | None]:
    return lambda value: None if value > low else f"expected more than {low:g}"


def between(low: float, high: float) -> Callable[[Any], str | None]:
    """At least ``low`` and below ``high``."""
    return lambda value: None if low <= value < high else f"expected {low:g} to below {high:.12g}"


def flag_of(name: str) -> str:
    """``batch_size`` to ``--batch-size``."""
    return "--" + name.replace("_", "-")
