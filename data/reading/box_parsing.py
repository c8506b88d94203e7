"""Four coordinates to one box: the same rules for every annotation format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from data.remarks import Remarks
from utils.errors import UserError

Box = tuple[float, float, float, float]
COORDINATES = ("xmin", "ymin", "xmax", "ymax")

# Beyond 2**24 float32 cannot tell neighbouring pixels apart, and no image is that wide.
MAX_PIXEL = 2**24


def parse_box(
    raw: Mapping[str, str | None],
    where: str,
    remarks: Remarks,
    *,
    size: tuple[int, int] | None = None,
    origin: int = 0,
) -> Box | None:
    """As ``make_box``. raw: the texts of xmin, ymin, xmax, ymax; a missing one is an error too."""
    texts = [(raw.get(tag) or "").strip() for tag in COORDINATES]
    corners = [_number(text) for text in texts]
    return make_box(corners, where, remarks, size=size, origin=origin, texts=texts)


def make_box(
    corners: Sequence[float],
    where: str,
    remarks: Remarks,
    *,
    size: tuple[int, int] | None = None,
    origin: int = 0,
    texts: Sequence[str] | None = None,
) -> Box | None:
    """One box, xyxy, absolute pixels with origin 0, each value representable in float32.

    corners: xmin, ymin, xmax, ymax. where: file and object or line, for messages. size: (width,
    height) of the image as the annotation states it, for messages. origin: the number of the first
    pixel. texts: the corners as the file has them, for messages.

    With ``origin=1`` coordinates are those of VOC: pixels are numbered 1..W and both corner
    pixels belong to the box. Pixel 1 covers the interval 0..1 and pixel W covers W-1..W, so the
    box is xmin - 1, ymin - 1, xmax, ymax. Files that count from 0 nevertheless reach one pixel
    further, which is taken off.

    Any other box that reaches over the image's edge is returned as it is: what counts is the edge
    of the decoded image, see ``data.checking.box_checks``. None, counted in ``remarks``, for a box
    without area. Raises UserError for a non-finite coordinate and for inverted corners: only the
    author knows what was meant.
    """
    for index, value in enumerate(corners):
        if not abs(value) < MAX_PIXEL:
            text = repr(value) if texts is None else texts[index]
            problem = f"is {text!r}; expected a finite" if text else "is missing; expected a"
            raise UserError(f"{where}: {COORDINATES[index]} {problem} number of pixels.")
    xmin, ymin, xmax, ymax = (float(np.float32(value)) for value in corners)
    if xmax < xmin or ymax < ymin:
        raise UserError(_inverted(where, (xmin, ymin, xmax, ymax), size))
    left, top = (0.0 if -origin <= first < 0 else first for first in (xmin - origin, ymin - origin))
    if xmax <= left or ymax <= top:
        remarks.count("boxes without area, dropped", where)
        return None
    return left, top, xmax, ymax


def parse_size(width: str | float | None, height: str | float | None) -> tuple[int, int] | None:
    """(width, height) in pixels, or None where it is absent, zero or no number.

    Labelling tools often write 0 or nonsense; the decoded image is what counts.
    """
    try:
        size = int(float(width or 0)), int(float(height or 0))
    except (ValueError, OverflowError):
        return None
    return size if min(size) > 0 else None


def _number(text: str) -> float:
    """The number; nan where the text is none."""
    try:
        # float() would read the underscore of 1_000 as a digit separator.
        return float("nan" if "_" in text else text)
    except ValueError:
        return float("nan")


def _inverted(where: str, box: Box, size: tuple[int, int] | None) -> str:
    xmin, ymin, xmax, ymax = box
    likely = "probably the corners are swapped"
    if size and xmin + xmax <= size[0] and ymin + ymax <= size[1]:
        likely += ", or xmax and ymax hold the box's width and height"
    return (
        f"{where}: inverted corners (xmin {xmin:g}, ymin {ymin:g}, xmax {xmax:g}, ymax {ymax:g}); "
        f"expected xmin < xmax and ymin < ymax; {likely}. Correct the annotation."
    )
