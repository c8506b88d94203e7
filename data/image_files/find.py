"""Images without labels: the image files of a folder and of the folders in it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from data.image_files.decode import FORMATS
from utils.errors import UserError

OPENED = {*FORMATS, "MPO"}  # the reader of JPEG opens the latter


@dataclass(frozen=True)
class ImageFiles:
    """The images of a path. root: the folder that holds them; names: their paths in it.

    others: how many other files there are of each extension, in lower case. unlisted: folders that
    cannot be listed, and why.
    """

    root: Path
    paths: tuple[Path, ...]
    others: Mapping[str, int] = field(default_factory=dict)
    unlisted: tuple[tuple[str, str], ...] = ()

    @property
    def names(self) -> list[str]:
        return [path.relative_to(self.root).as_posix() for path in self.paths]


def describe_others(others: Mapping[str, int]) -> str:
    """`` (other files: 3 .heic, 1 .txt)``, or nothing."""
    kinds = sorted(others.items(), key=lambda kind: -kind[1])
    listed = ", ".join(f"{count} {suffix}" for suffix, count in kinds)
    return f" (other files: {listed})" if listed else ""


def find_images(path: Path, flag: str) -> ImageFiles:
    """The image ``path``, whatever its name, or the images of a folder and the folders in it.

    Hidden files are left out. A link to a folder is followed, unless it leads back into the folder
    or to one that holds it. Raises UserError naming ``flag`` where there is none.
    """
    if os.path.isfile(path):
        return ImageFiles(path.parent, (path,))
    if not os.path.isdir(path):
        raise UserError(
            f"{flag} {path}: there is no such file or folder; give an image or a folder of images."
        )
    readable = {s for s, kind in Image.registered_extensions().items() if kind in OPENED}
    paths: list[Path] = []
    others: Counter[str] = Counter()
    unlisted: list[tuple[str, str]] = []
    for entry in _files_below(path, unlisted):
        # A link to nothing counts as an image that cannot be read.
        is_file = os.path.isfile(entry.path) or not os.path.exists(entry.path)
        suffix = os.path.splitext(entry.name)[1].lower()
        if is_file and suffix in readable:
            paths.append(Path(entry.path))
        else:
            others[suffix or "no extension"] += 1
    if not paths:
        raise UserError(
            f"{flag} {path}: the folder holds no images{describe_others(others)}; give an "
            "image or a folder of images in a format that is read, as JPEG or PNG."
        )
    return ImageFiles(path, tuple(sorted(paths)), others, tuple(unlisted))


def _files_below(root: Path, unlisted: list[tuple[str, str]]) -> Iterator[os.DirEntry[str]]:
    """Everything but folders. Links come last, so that what lies inside has its own path."""
    top = Path(os.path.realpath(root))
    folders, links = [str(root)], list[str]()
    seen: set[str] = set()
    while folders or links:
        folder = folders.pop() if folders else links.pop()
        real = os.path.realpath(folder)
        if real in seen or (seen and top.is_relative_to(real)):
            continue
        seen.add(real)
        try:
            with os.scandir(folder) as scan:
                entries = [entry for entry in scan if not entry.name.startswith(".")]
        except OSError as error:
            unlisted.append((folder, f"the folder cannot be listed ({error.strerror})"))
            continue
        for entry in entries:
            if os.path.isdir(entry.path):
                (links if entry.is_symlink() else folders).append(entry.path)
            else:
                yield entry
