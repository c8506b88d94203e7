"""One COCO JSON: its three lists, and the entries of them, read with messages.

The file is untrusted: any value may be of any type.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.reading.box_parsing import MAX_PIXEL, parse_size
from data.reading.folder import read_text
from utils.errors import UserError

Id = int | str
Entry = dict[str, Any]


def load_coco(path: Path) -> dict[str, list[Entry]]:
    """The three lists of a COCO file, each known to be a list of objects."""
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UserError(
            f"{path}: not readable as JSON ({reason}); export the annotations again."
        ) from error
    for key in ("images", "annotations", "categories"):
        rows = content.get(key) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise UserError(
                f"{path}: not a COCO file of boxes, {key!r} is missing or no list of objects; "
                "expected the lists images, annotations and categories."
            )
    return content


def category_names(rows: Sequence[Entry], path: Path) -> dict[Id, str]:
    names: dict[Id, str] = {}
    for number, row in enumerate(rows, start=1):
        where = f"{path}, category number {number}"
        key = id_of(row, "id", where)
        if key in names:
            raise UserError(
                f"{where}: the id {reprlib.repr(key)} is there more than once; ids are unique."
            )
        names[key] = text_of(row, "name", where)
    return names


def corners_of(row: Entry, where: str) -> list[float]:
    """xmin, ymin, xmax, ymax of a bbox [x, y, width, height]."""
    bbox = row.get("bbox")
    numbers: list[Any] = bbox if isinstance(bbox, list) and len(bbox) == 4 else [None]
    # An integer may be too large for a float.
    if not all(type(n) in (int, float) and abs(n) < MAX_PIXEL for n in numbers):
        raise UserError(
            f"{where}: bbox is {reprlib.repr(bbox)}; expected [x, y, width, height], four "
            "finite numbers of pixels."
        )
    x, y, width, height = numbers
    if width < 0 or height < 0:
        raise UserError(
            f"{where}: bbox {bbox} has a negative width or height; expected "
            "[x, y, width, height]. Correct the annotation."
        )
    return [x, y, x + width, y + height]


def id_of(row: Entry, key: str, where: str) -> Id:
    value = row.get(key)
    if type(value) not in (int, str):
        raise UserError(f"{where}: {key} is {reprlib.repr(value)}; expected an id, as 17.")
    return value  # type: ignore[return-value]


def text_of(row: Entry, key: str, where: str) -> str:
    value = row.get(key)
    text = value.strip() if isinstance(value, str) else ""
    # JSON can spell half a character, which can be neither printed nor saved.
    if not text or any("\ud800" <= c <= "\udfff" for c in text):
        raise UserError(f"{where}: {key} is {reprlib.repr(value)}; expected a text.")
    return text


def size_of(row: Entry) -> tuple[int, int] | None:
    """(width, height) of an image, None where it is not stated."""
    width, height = row.get("width"), row.get("height")
    if not all(type(side) in (int, float, str) for side in (width, height)):
        return None
    return parse_size(width, height)
