"""Images by the paths that annotations state, which may be those of another machine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from data.reading.folder import Folder, ImageIndex

# Of a stated path; no data set is nested deeper, but a line of text may be as long as it likes.
MOST_PARENTS = 16


class PathIndex:
    """Look-up of images by a stated path: by its folders where the data set has them, by its name.

    Tools write absolute paths, paths of Windows and bare names; only a listed file is found.

    folders: where a bare name is looked for. bases: the folders that a path may start from. A path
    of another machine may lead to any of these: the most of its last parts that are folders of the
    data set count. Earlier folders come first.
    """

    def __init__(self, folders: Sequence[Folder], bases: Sequence[Folder]) -> None:
        self._bases = bases
        self._anywhere = ImageIndex(folders)
        self._by_parents: dict[tuple[str, ...], ImageIndex] = {}
        self._by_folders: dict[tuple[Folder, ...], ImageIndex] = {}

    def find(self, stated: str) -> Path | None:
        *parts, name = re.split(r"[\\/]", stated.strip())
        parents = tuple(part for part in parts if part not in ("", "."))[-MOST_PARENTS:]
        if parents not in self._by_parents:
            folders = tuple(self._tails(parents))
            # As many parents may lead to the same folders as there are images.
            if folders not in self._by_folders:
                self._by_folders[folders] = ImageIndex(folders)
            self._by_parents[parents] = self._by_folders[folders]
        return self._by_parents[parents].find(name) or self._anywhere.find(stated)

    def _tails(self, parents: tuple[str, ...]) -> Iterator[Folder]:
        """The folders of which ``parents`` ends with the path, the longest first."""
        for first in range(len(parents)):
            for base in self._bases:
                inside: Folder | None = base
                for part in parents[first:]:
                    inside = inside.find_folder(part) if inside else None
                if inside:
                    yield inside
