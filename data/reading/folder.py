"""Folders listed once: a reader uses only the files that a listing of the data set showed.

A file name in an annotation is therefore never opened; it is looked up. Neither ``..`` nor an
absolute path nor a symbolic link can lead out of the folder that the user gave.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from utils.errors import UserError, did_you_mean
from utils.text import fold

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm")
    + (".pgm", ".avif")
)


class Folder:
    """The files and folders directly inside ``path``, by name, in the order of their names.

    Hidden names (``.DS_Store``, the ``._*`` files of macOS) are left out, and so are symbolic
    links that lead out of the data set's folder; those are collected in ``escaping``.
    """

    def __init__(self, path: Path, parent: Folder | None = None) -> None:
        self.path = path
        self._boundary: Path = parent._boundary if parent else _real(path)
        self.escaping: list[Path] = parent.escaping if parent else []
        self.files: dict[str, Path] = {}
        self._folder_paths: dict[str, Path] = {}
        self._opened: dict[str, Folder] = {}
        for entry in _scan(path):
            if entry.name.startswith(".") or entry.name == "__MACOSX" or self.escapes(entry):
                continue
            if _is(entry.is_dir):
                self._folder_paths[entry.name] = path / entry.name
            elif _is(entry.is_file):  # no dangling link, and no pipe: it would never end
                self.files[entry.name] = path / entry.name

    def escapes(self, entry: os.DirEntry[str]) -> bool:
        """Whether it is a link out of the data set's folder; such links are collected."""
        if not entry.is_symlink():
            return False
        outside = not _real(entry.path).is_relative_to(self._boundary)
        if outside:
            self.escaping.append(self.path / entry.name)
        return outside

    @cached_property
    def images(self) -> list[Path]:
        """Files that an image extension says are images; none is opened."""
        return [p for name, p in self.files.items() if _suffix(name) in IMAGE_SUFFIXES]

    @cached_property
    def xml_files(self) -> list[Path]:
        return [p for name, p in self.files.items() if _suffix(name) == ".xml"]

    @cached_property
    def folders(self) -> list[Folder]:
        """The folders inside that may be listed; a ``lost+found`` beside the data is no fault."""
        readable = (n for n, p in self._folder_paths.items() if os.access(p, os.R_OK | os.X_OK))
        return [self._open(name) for name in readable]

    def find_file(self, name: str) -> Path | None:
        """The file of that name; failing that, of that name in other capitals."""
        if name in self.files:
            return self.files[name]
        return next((p for n, p in self.files.items() if fold(n) == fold(name)), None)

    def find_folder(self, *names: str) -> Folder | None:
        """The first of ``names`` that is a folder here, whatever its capitals."""
        for name in names:
            if name in self._folder_paths:
                return self._open(name)
            for other in self._folder_paths:
                if fold(other) == fold(name):
                    return self._open(other)
        return None

    def _open(self, name: str) -> Folder:
        if name not in self._opened:
            self._opened[name] = Folder(self._folder_paths[name], parent=self)
        return self._opened[name]

    def link_hint(self) -> str:
        """A sentence for messages about something missing, or an empty string."""
        if not self.escaping:
            return ""
        return (
            f" {len(self.escaping)} symbolic link(s) that lead out of the folder were not "
            f"followed, e.g. {self.escaping[0]}."
        )


def open_folder(path: str | Path) -> Folder:
    """The folder a user named. Raises UserError when it is absent, a file, unreadable or empty."""
    if not str(path).strip():
        raise UserError("the path of the data set is empty; give the folder that holds it.")
    path = Path(os.path.expanduser(path))
    if not os.path.exists(path):  # Path.exists raises where a parent may not be searched
        raise UserError(f"{path}: no such folder{_similar_name(path)}; give the data set's folder.")
    if not os.path.isdir(path):
        raise UserError(
            f"{path}: this is a file; give the folder that holds the data set"
            " (an archive has to be unpacked first)."
        )
    folder = Folder(path)
    if not folder.files and not folder._folder_paths:
        raise UserError(
            f"{path}: the folder is empty; give the folder that holds the data set."
            f"{folder.link_hint()}"
        )
    return folder


def read_bytes(path: Path) -> bytes:
    """A file's bytes. Raises UserError naming the file."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error


def read_text(path: Path) -> str:
    """A UTF-8 file, with or without a byte order mark. Raises UserError naming file and line."""
    raw = read_bytes(path)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}, line {line}: not UTF-8 text (byte 0x{raw[error.start]:02x}); "
            "save the file as UTF-8."
        ) from error


def _real(path: str | Path) -> Path:
    # Path.resolve raises for a link that leads to itself; realpath does not.
    return Path(os.path.realpath(path))


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _scan(path: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{path}: the folder cannot be listed ({error.strerror}).") from error


def _is(kind: Callable[[], bool]) -> bool:
    try:
        return kind()
    except OSError:  # a link that leads to itself
        return False


def _similar_name(path: Path) -> str:
    try:
        return did_you_mean(path.name, [e.name for e in _scan(path.parent) if e.is_dir()])
    except UserError:
        return ""
