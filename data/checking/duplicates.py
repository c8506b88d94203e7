"""Pictures that are in both splits, or look as if: they flatter the mAP."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.image_files.read import Picture
from data.remarks import Notes, Severity

# Of 256 signs of gradients. Photographs of one burst differ in 12 to 28, of different scenes in 56
# and more.
MOST_DIFFERENT_SIGNS = 32
# The signs of a picture as plain as this are noise.
LEAST_CONTRAST = 4.0
# Pictures of each side that are compared at a time: 32 bytes a pair.
ROWS_AT_ONCE, COLUMNS_AT_ONCE = 256, 4096


def note_copies(train: Sequence[Picture], validation: Sequence[Picture], notes: Notes) -> None:
    """Count pictures with the same pixels, and others that are nearly the same.

    train, validation: decoded pictures, see ``data.image_files.read.look_at``. Nearly the same is
    judged by difference hashes (https://www.hackerfactor.com/blog/index.php?/archives/529): a
    picture that was saved again, scaled or made brighter, or a video's next frame.
    """
    trained: dict[bytes, list[Path]] = defaultdict(list)
    for picture in train:
        if picture.digest:
            trained[picture.digest].append(picture.path)
    for paths in trained.values():
        for path in paths[1:]:
            where = f"{path} is {paths[0]}"
            notes.count("images that are in the training split twice", where, Severity.NOTE)
    others = []
    for picture in validation:
        if picture.digest in trained:
            where = f"{picture.path} is {trained[picture.digest][0]}"
            notes.count("validation images that are training images too", where)
        else:
            others.append(picture)
    for one, other in _nearly_the_same(others, train):
        where = f"{one.path} looks like {other.path}"
        notes.count("validation images that nearly are training images", where)


def _nearly_the_same(
    pictures: Sequence[Picture], among: Sequence[Picture]
) -> list[tuple[Picture, Picture]]:
    """For each of ``pictures`` the one of ``among`` that looks most like it, if any does."""
    pictures, among = _telling(pictures), _telling(among)
    if not pictures or not among:
        return []
    own, signs = _signs(pictures), _signs(among)
    least = np.full(len(own), MOST_DIFFERENT_SIGNS + 1)
    nearest = np.zeros(len(own), dtype=np.int64)
    for top in range(0, len(own), ROWS_AT_ONCE):
        rows = slice(top, min(top + ROWS_AT_ONCE, len(own)))
        for left in range(0, len(signs), COLUMNS_AT_ONCE):
            block = signs[None, left : left + COLUMNS_AT_ONCE]
            different = np.bitwise_count(own[rows, None] ^ block).sum(axis=2)
            counts = different.min(axis=1)
            less = counts < least[rows]
            least[rows] = np.where(less, counts, least[rows])
            nearest[rows] = np.where(less, left + different.argmin(axis=1), nearest[rows])
    found = np.flatnonzero(least <= MOST_DIFFERENT_SIGNS).tolist()
    return [(pictures[i], among[int(nearest[i])]) for i in found]


def _signs(pictures: Sequence[Picture]) -> np.ndarray:
    """uint64 (N, 4)."""
    return np.stack([p.gradients for p in pictures if p.gradients is not None])


def _telling(pictures: Sequence[Picture]) -> list[Picture]:
    return [p for p in pictures if p.gradients is not None and p.contrast >= LEAST_CONTRAST]
