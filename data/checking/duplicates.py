"""Images that are in both splits, or look as if they were: they flatter the mAP."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.image_files.read import ImageProbe
from data.remarks import Remarks, Severity

# Of 256 signs of gradients. Photographs of one burst differ in 12 to 28, of different scenes in 56
# and more.
MOST_DIFFERENT_SIGNS = 32
# The signs of an image with less contrast are noise.
LEAST_CONTRAST = 4.0
# Images of each side that are compared at a time: 32 bytes per pair.
ROWS_AT_ONCE, COLUMNS_AT_ONCE = 256, 4096


def remark_duplicates(
    train: Sequence[ImageProbe], validation: Sequence[ImageProbe], remarks: Remarks
) -> None:
    """Count images with the same pixels, and others that are nearly the same.

    train, validation: decoded images, see ``data.image_files.read.probe``. Nearly the same is
    judged by difference hashes (https://www.hackerfactor.com/blog/index.php?/archives/529): an
    image that was saved again, scaled or made brighter, or a video's next frame.
    """
    trained: dict[bytes, list[Path]] = defaultdict(list)
    for probe in train:
        if probe.digest:
            trained[probe.digest].append(probe.path)
    for paths in trained.values():
        for path in paths[1:]:
            where = f"{path} is {paths[0]}"
            remarks.count("images that are in the training split twice", where, Severity.NOTE)
    others = []
    for probe in validation:
        if probe.digest in trained:
            where = f"{probe.path} is {trained[probe.digest][0]}"
            remarks.count("validation images that are training images too", where)
        else:
            others.append(probe)
    for one, other in _nearly_the_same(others, train):
        where = f"{one.path} looks like {other.path}"
        remarks.count("validation images that nearly are training images", where)


def _nearly_the_same(
    probes: Sequence[ImageProbe], among: Sequence[ImageProbe]
) -> list[tuple[ImageProbe, ImageProbe]]:
    """For each of ``probes`` the one of ``among`` that looks most like it, if any does."""
    probes, among = _with_contrast(probes), _with_contrast(among)
    if not probes or not among:
        return []
    queries, signs = _signs(probes), _signs(among)
    least = np.full(len(queries), MOST_DIFFERENT_SIGNS + 1)
    nearest = np.zeros(len(queries), dtype=np.int64)
    for top in range(0, len(queries), ROWS_AT_ONCE):
        rows = slice(top, min(top + ROWS_AT_ONCE, len(queries)))
        for left in range(0, len(signs), COLUMNS_AT_ONCE):
            block = signs[None, left : left + COLUMNS_AT_ONCE]
            different = np.bitwise_count(queries[rows, None] ^ block).sum(axis=2)
            counts = different.min(axis=1)
            less = counts < least[rows]
            least[rows] = np.where(less, counts, least[rows])
            nearest[rows] = np.where(less, left + different.argmin(axis=1), nearest[rows])
    alike = np.flatnonzero(least <= MOST_DIFFERENT_SIGNS).tolist()
    return [(probes[i], among[int(nearest[i])]) for i in alike]


def _signs(probes: Sequence[ImageProbe]) -> np.ndarray:
    """uint64 (N, 4)."""
    return np.stack([p.gradients for p in probes if p.gradients is not None])


def _with_contrast(probes: Sequence[ImageProbe]) -> list[ImageProbe]:
    return [p for p in probes if p.gradients is not None and p.contrast >= LEAST_CONTRAST]
