"""Names compared, and lists put into one line."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from utils.errors import shortened

# A line lists at most this many, shortened, then how many more there are and where all are listed.
LISTED = 20
LONGEST_ITEM = 200  # characters


def fold(name: str) -> str:
    """A name for comparing: without case, and with one spelling of accented letters.

    macOS hands out decomposed letters where annotations hold composed ones.
    """
    return name.casefold() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def listed(
    items: Iterable[object], limit: int = LISTED, *, hint: str = "", count: int | None = None
) -> str:
    """``a, b, c and 4 more``: enough to find the fault, short enough for one line.

    hint: where all items are listed, in brackets after the number. count: how many there are, where
    ``items`` are the first of them only.
    """
    texts = [str(item) for item in items]
    rest = (len(texts) if count is None else count) - min(len(texts), limit)
    shown = ", ".join(shortened(text, LONGEST_ITEM) for text in texts[:limit])
    return shown + (f" and {rest} more" + (f" ({hint})" if hint else "") if rest > 0 else "")
