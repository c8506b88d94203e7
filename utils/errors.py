"""The one exception type for everything a user can put right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import islice

LONGEST_LINE = 1000  # characters: a message quotes files, which may hold a megabyte in one value
LONGEST_LIST = 20_000  # of a message that lists, whose parts are short
# difflib compares letter with letter and word with word: more of them would take long.
LONGEST_WORD = 80
MOST_WORDS = 1000


class UserError(Exception):
    """Bad input, met at the edge.

    The message is one line: the flag or file (with line or object), the value found, what was
    expected and what to do. ``main.py`` alone catches it: it prints the line and exits with 2.
    longest: characters; the middle of a longer message is left out.
    """

    def __init__(self, message: str, *, longest: int = LONGEST_LINE) -> None:
        # torch raises the error of a loader's process again, with the text of its traceback as the
        # message; that text ends in the class as Python prints it and the original message.
        printed = f"{type(self).__module__}.{type(self).__qualname__}: "
        text = message.rsplit(printed, 1)[-1].strip()
        # A name in a file may hold a line break.
        super().__init__(shortened(r"\n".join(text.splitlines()), longest))


def shortened(text: str, longest: int = LONGEST_LINE) -> str:
    """The text, or if it is too long its beginning and its end around ``...``.

    A message begins with the place of a fault and ends with what to do about it.
    """
    if len(text) <= longest:
        return text
    end = (longest - 3) // 3
    return f"{text[: longest - 3 - end]}...{text[len(text) - end :]}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` (did you mean 'queen'?)`` for the nearest of ``known``, or an empty string."""
    if len(word) > LONGEST_WORD:
        return ""
    words = [other for other in islice(known, MOST_WORDS) if len(other) <= LONGEST_WORD]
    closest = difflib.get_close_matches(word, words, n=1)
    return f" (did you mean {closest[0]!r}?)" if closest else ""


def first_line(error: BaseException) -> str:
    """What a library's exception says, short enough for a ``UserError``."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:120]
