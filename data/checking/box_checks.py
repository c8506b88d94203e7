"""Annotations held against the pictures themselves: what cannot be read, what does not fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from data.dataset import Annotation
from data.image_files.read import Picture, look_at_all
from data.remarks import Notes, Severity

# A box with less than this share of its area inside its picture is no fair example of its object.
LEAST_INSIDE = 0.5
# Tools count pixels from 0 or from 1, and round: that far a box may reach over the edge.
ROUNDING = 1.0


def inspect(
    records: Sequence[Annotation],
    notes: Notes,
    *,
    decode: bool = False,
    progress: Callable[[int], None] | None = None,
) -> tuple[list[Annotation], list[Picture]]:
    """The records whose picture can be read, with the pictures of all records.

    Each record that comes back states the size of its picture as training sees it, and its boxes
    lie inside: what reaches over the edge is clipped, what is mostly outside is dropped, and both
    are counted. Pictures that cannot be read count as bad images. decode: see ``look_at``.
    """
    wanted = [(record.image_path, record.size) for record in records]
    pictures = look_at_all(wanted, decode=decode, progress=progress)
    kept = []
    for record, picture in zip(records, pictures, strict=True):
        if picture.size is None:
            where = f"{picture.path}: {picture.error}"
            notes.count("image(s) that cannot be read", where, Severity.BAD_IMAGE)
            continue
        explained = _compare_sizes(record, picture, notes)
        kept.append(_fit(record, picture.size, explained, notes))
    return kept, pictures


def _compare_sizes(record: Annotation, picture: Picture, notes: Notes) -> bool:
    """Whether the annotation's size agrees with the picture; what it means if not is noted."""
    stated, size = record.size, picture.size
    if stated == size or stated is None:
        if picture.orientation != 1 and record.names:
            _note_turn(record, picture, notes)
        return True
    where = f"{record.source} states {_show(stated)}, {record.image_path} is {_show(size)}"
    if size is not None and stated == size[::-1]:
        where += " (width and height exchanged)"
    notes.count("annotations that state another size than their image's; the image counts", where)
    return False


def _note_turn(record: Annotation, picture: Picture, notes: Notes) -> None:
    """Count a picture of which nothing tells if its boxes were drawn before or after the turn."""
    if picture.upright == picture.stored:
        untold = "whose size cannot tell"
    elif record.size is None:
        untold = "whose annotation states no size that could tell"
    else:
        return
    notes.count(
        f"images that EXIF turns and {untold} if their boxes turn with them; "
        "the turned picture is used",
        str(record.image_path),
    )


def _fit(record: Annotation, size: tuple[int, int], explained: bool, notes: Notes) -> Annotation:
    """The record with its boxes inside a picture of ``size``, and ``size`` as its own."""
    boxes = record.boxes.reshape(-1, 4).astype(np.float32)
    clipped = boxes.clip(0, np.array([*size, *size], dtype=np.float32))
    over = np.abs(boxes - clipped).max(axis=1, initial=0)
    area = _area(boxes)  # 0 where a box is very small
    inside = np.divide(_area(clipped), area, out=np.ones(len(boxes)), where=(over > 0) & (area > 0))
    thinnest = _sides(clipped).min(axis=1, initial=np.inf)
    inside[thinnest <= 0] = 0
    kept = inside >= LEAST_INSIDE
    if not kept.all() and not explained:
        # Boxes that fit the stated size and not the picture were drawn on another picture.
        notes.error(
            f"{record.source}: boxes for a picture of {_show(record.size)}, but "
            f"{record.image_path} is {_show(size)}, and {int((~kept).sum())} of {len(kept)} lie "
            "mostly outside; was it resized after it was labelled? Restore it or label it again."
        )
    _note_edges(record, boxes, over, inside, notes)
    for index in np.flatnonzero(kept & (thinnest < 1)).tolist():
        notes.count("boxes less than a pixel wide or high", _object(record, boxes, index))
    return replace(
        record,
        boxes=clipped[kept],
        names=tuple(name for name, keep in zip(record.names, kept, strict=True) if keep),
        difficult=np.asarray(record.difficult, dtype=bool)[kept],
        crowd=None if record.crowd is None else record.crowd[kept],
        size=size,
    )


def _note_edges(
    record: Annotation, boxes: np.ndarray, over: np.ndarray, inside: np.ndarray, notes: Notes
) -> None:
    """Count what lies over the picture's edge. over: pixels (N,). inside: shares (N,)."""
    for index in np.flatnonzero((over > 0) | (inside <= 0)).tolist():
        severity = Severity.WARNING
        if not over[index]:
            what = "boxes without area, dropped"
        elif inside[index] <= 0:
            what = "boxes entirely outside of their image, dropped"
        elif inside[index] < LEAST_INSIDE:
            what = "boxes mostly outside of their image, dropped"
        elif over[index] > ROUNDING:
            what = "boxes that reach over the edge of their image, clipped"
        else:
            what = "boxes that reach over the edge of their image by a pixel at most, clipped"
            severity = Severity.NOTE
        notes.count(what, _object(record, boxes, index), severity)


def _object(record: Annotation, boxes: np.ndarray, index: int) -> str:
    corners = ", ".join(f"{value:g}" for value in boxes[index])
    return f"{record.source}, {record.image_path.name}, {record.names[index]!r} ({corners})"


def _sides(boxes: np.ndarray) -> np.ndarray:
    """Width and height of each, float64 (N, 2)."""
    sides: np.ndarray = boxes[:, 2:].astype(np.float64) - boxes[:, :2]
    return sides


def _area(boxes: np.ndarray) -> np.ndarray:
    area: np.ndarray = _sides(boxes).clip(min=0).prod(axis=1)
    return area


def _show(size: tuple[int, int] | None) -> str:
    return f"{size[0]}x{size[1]}" if size else "unknown size"
