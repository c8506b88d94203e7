"""The one exception type for everything a user can put right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input, met at the edge.

    The message is one line: the flag or file (with line or object), the value found, what was
    expected and what to do. ``main.py`` alone catches it: it prints the line and exits with 2.
    """

    def __init__(self, message: str) -> None:
        # A loader's worker hands an error on wrapped in its traceback, its own message last.
        text = message.rsplit("utils.errors.UserError: ", 1)[-1].strip()
        # A name in a file may hold a line break.
        super().__init__(r"\n".join(text.splitlines()))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'queen'?)`` for the nearest of ``known``, or an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def first_line(error: BaseException) -> str:
    """What a library's exception says, short enough for a ``UserError``."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:120]
