"""Annotations compared with the images themselves: what cannot be read, what does not fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from data.dataset import Annotation
from data.image_files.read import ImageProbe, probe_all
from data.remarks import Remarks, Severity

# A box with less than this share of its area inside its image is no fair example of its object.
LEAST_INSIDE = 0.5
# Tools count pixels from 0 or from 1, and round: that far a box may reach over the edge.
ROUNDING = 1.0


def check_boxes(
    records: Sequence[Annotation],
    remarks: Remarks,
    *,
    decode: bool = False,
    progress: Callable[[int], None] | None = None,
) -> tuple[list[Annotation | None], list[ImageProbe]]:
    """The records as training uses them, and the probes of their images.

    Each record states the size of its image as training sees it, and its boxes lie inside: what
    reaches over the edge is clipped, what is mostly outside is dropped, and both are counted. None
    is for an image that cannot be read, which counts as a bad image. decode: see ``probe``.
    """
    files = [(record.image_path, record.size) for record in records]
    probes = probe_all(files, decode=decode, progress=progress)
    checked: list[Annotation | None] = []
    for record, probe in zip(records, probes, strict=True):
        if probe.size is None:
            where = f"{probe.path}: {probe.error}"
            remarks.count("image(s) that cannot be read", where, Severity.BAD_IMAGE)
            checked.append(None)
        else:
            same_size = _compare_sizes(record, probe, remarks)
            checked.append(_fit(record, probe.size, same_size, remarks))
    return checked, probes


def _compare_sizes(record: Annotation, probe: ImageProbe, remarks: Remarks) -> bool:
    """Whether the annotation states no other size than the image's; a difference is counted."""
    stated, size = record.size, probe.size
    if stated == size or stated is None:
        if probe.orientation != 1 and record.names:
            _remark_orientation(record, probe, remarks)
        return True
    where = f"{record.source} states {_show(stated)}, {record.image_path} is {_show(size)}"
    if size is not None and stated == size[::-1]:
        where += " (width and height exchanged)"
    remarks.count("annotations that state another size than their image's; the image counts", where)
    return False


def _remark_orientation(record: Annotation, probe: ImageProbe, remarks: Remarks) -> None:
    """Count an image whose boxes may have been drawn before or after EXIF's rotation."""
    if probe.upright == probe.stored:
        reason = "whose size cannot tell"
    elif record.size is None:
        reason = "whose annotation states no size that could tell"
    else:
        return
    remarks.count(
        f"images that EXIF rotates and {reason} if their boxes rotate with them; "
        "the rotated image is used",
        str(record.image_path),
    )


def _fit(
    record: Annotation, size: tuple[int, int], same_size: bool, remarks: Remarks
) -> Annotation:
    """The record with its boxes clipped to an image of ``size``, and ``size`` as its own."""
    boxes = record.boxes.reshape(-1, 4).astype(np.float32)
    clipped = boxes.clip(0, np.array([*size, *size], dtype=np.float32))
    over = np.abs(boxes - clipped).max(axis=1, initial=0)
    area = _area(boxes)  # 0 where a box is very small
    inside = np.divide(_area(clipped), area, out=np.ones(len(boxes)), where=(over > 0) & (area > 0))
    thinnest = _sides(clipped).min(axis=1, initial=np.inf)
    inside[thinnest <= 0] = 0
    kept = inside >= LEAST_INSIDE
    if not kept.all() and not same_size:
        # Boxes that fit the stated size and not the image were drawn on another image.
        remarks.error(
            f"{record.source}: boxes for an image of {_show(record.size)}, but "
            f"{record.image_path} is {_show(size)}, and {int((~kept).sum())} of {len(kept)} lie "
            "mostly outside; was it resized after it was labelled? Restore it or label it again."
        )
    _remark_edges(record, boxes, over, inside, remarks)
    for index in np.flatnonzero(kept & (thinnest < 1)).tolist():
        remarks.count("boxes less than a pixel wide or high", _object(record, boxes, index))
    return replace(
        record,
        boxes=clipped[kept],
        names=tuple(name for name, keep in zip(record.names, kept, strict=True) if keep),
        difficult=np.asarray(record.difficult, dtype=bool)[kept],
        crowd=None if record.crowd is None else record.crowd[kept],
        size=size,
    )


def _remark_edges(
    record: Annotation, boxes: np.ndarray, over: np.ndarray, inside: np.ndarray, remarks: Remarks
) -> None:
    """Count what lies over the image's edge. over: pixels (N,). inside: shares (N,)."""
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
        remarks.count(what, _object(record, boxes, index), severity)


def _object(record: Annotation, boxes: np.ndarray, index: int) -> str:
    corners = ", ".join(f"{value:g}" for value in boxes[index])
    return f"{record.source}, {record.image_path.name}, {record.names[index]!r} ({corners})"


def _sides(boxes: np.ndarray) -> np.ndarray:
    """Width and height of each, float64 (N, 2)."""
    return boxes[:, 2:].astype(np.float64) - boxes[:, :2]


def _area(boxes: np.ndarray) -> np.ndarray:
    return _sides(boxes).clip(min=0).prod(axis=1)


def _show(size: tuple[int, int] | None) -> str:
    return f"{size[0]}x{size[1]}" if size else "unknown size"
