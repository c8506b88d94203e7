"""Pictures that are in both splits, or look as if: they flatter the mAP."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.images import Picture
from data.notes import Notes, Severity

# Of 256 signs of gradients. Photographs of one burst differ in 12 to 28, of different scenes in 56
# and more.
MOST_DIFFERENT_SIGNS = 32
# The signs of a picture as plain as this are noise.
LEAST_CONTRAST = 4.0
ROWS_AT_ONCE = 256


def note_copies(train: Sequence[Picture], validation: Sequence[Picture], notes: Notes) -> None:
    """Count pictures with the same pixels, and others that are nearly the same.

    train, validation: decoded pictures, see ``data.images.look_at``. Nearly the same is judged by
    difference hashes (https://www.hackerfactor.com/blog/index.php?/archives/529): a picture that
    was saved again, scaled or made brighter, or a video's next frame.
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
    signs = np.stack([p.gradients for p in among if p.gradients is not None])
    found = []
    for start in range(0, len(pictures), ROWS_AT_ONCE):
        rows = pictures[start : start + ROWS_AT_ONCE]
        own = np.stack([p.gradients for p in rows if p.gradients is not None])
        different = np.bitwise_count(own[:, None] ^ signs[None]).sum(axis=2)
        for picture, column, count in zip(
            rows, different.argmin(axis=1), different.min(axis=1), strict=True
        ):
            if count <= MOST_DIFFERENT_SIGNS:
                found.append((picture, among[int(column)]))
    return found


def _telling(pictures: Sequence[Picture]) -> list[Picture]:
    return [p for p in pictures if p.gradients is not None and p.contrast >= LEAST_CONTRAST]
