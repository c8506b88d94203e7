"""Images by the names and paths that annotations state, which may be those of another machine.

A stated name is never opened: it is looked up among the files that a listing showed.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path

from data.reading.folder import IMAGE_SUFFIXES, Folder
from data.remarks import Remarks
from utils.text import fold

# Of a stated path; no data set is nested deeper, but a line of text may be as long as it likes.
MOST_PARENTS = 16


class ImageIndex:
    """Look-up of images by name, whatever the stated path. Earlier folders come first."""

    def __init__(self, folders: Iterable[Folder | None]) -> None:
        self._exact: dict[str, Path] = {}
        self._folded: dict[str, Path] = {}
        self._others: dict[str, Path] = {}
        self._stems: dict[str, list[Path]] = defaultdict(list)
        for folder in filter(None, folders):
            for path in folder.images:
                self._exact.setdefault(path.name, path)
                self._folded.setdefault(fold(path.name), path)
                self._stems[fold(path.stem)].append(path)
            for name, path in folder.files.items():
                self._others.setdefault(name, path)

    def find(self, stated: str) -> Path | None:
        """The image of a stated name or path: exactly, in other capitals, by stem.

        Failing these the file of exactly that name, whatever its extension: decoding will show
        whether it is an image.
        """
        name = stated.strip()
        if name not in self._exact:  # a backslash may well be a part of the name
            name = basename(stated)
        by_stem = self._stems.get(fold(strip_image_suffix(name)), [None])
        return (
            self._exact.get(name)
            or self._folded.get(fold(name))
            or by_stem[0]
            or self._others.get(name)
        )

    def find_by_stem(self, stem: str, stated: str = "") -> Path | None:
        """The image of that stem; of several, the one whose name is stated, then the same case."""
        candidates = self._stems.get(fold(stem)) or self._stems.get(fold(strip_image_suffix(stem)))
        if not candidates:
            return None
        name = basename(stated)
        return min(candidates, key=lambda p: (p.name != name, p.stem != stem))


class PathIndex:
    """Look-up of images by a stated path: by its folders where the data set has them, by its name.

    Tools write absolute paths, paths of Windows and bare names.

    folders: where a bare name is looked for. bases: the folders that a path may start from. For a
    path from another machine, the longest tail of its folders that exists in the data set is used.
    Earlier folders come first.
    """

    def __init__(self, folders: Sequence[Folder], bases: Sequence[Folder]) -> None:
        self.folders, self._bases = folders, bases
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
        """Folders whose path from a base is a tail of ``parents``, the longest tail first."""
        for first in range(len(parents)):
            for base in self._bases:
                inside: Folder | None = base
                for part in parents[first:]:
                    inside = inside.find_folder(part) if inside else None
                if inside:
                    yield inside


def remark_unused(
    what: str, folders: Iterable[Folder | None], used: Set[Path], remarks: Remarks
) -> None:
    """Count the images of ``folders`` that are not among ``used``."""
    for path in sorted({path for f in folders if f for path in f.images} - used):
        remarks.count(what, str(path))


def searched(folders: Iterable[Folder]) -> str:
    """Where images were looked for, for messages."""
    return ", ".join(f"{f.path}/" for f in folders if f.images) or "folders without any image"


def basename(stated: str) -> str:
    """The last part of a path of any operating system: ``C:\\x\\y.JPG`` is ``y.JPG``."""
    return re.split(r"[\\/]", stated.strip())[-1]


def strip_image_suffix(name: str) -> str:
    """``a.b.jpg`` is ``a.b``, and ``a.b``, which has no image extension, stays."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in IMAGE_SUFFIXES else name
