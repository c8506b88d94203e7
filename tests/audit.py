"""Which files the program opens and what it changes, as Python's audit events say."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.conftest import ROOT

LISTINGS = ("os.listdir", "os.scandir")
CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink")
CHANGES += ("os.truncate", "os.chmod", "os.utime", "os.chown", "os.system", "subprocess.Popen")


class Access(NamedTuple):
    """One event. path: with links resolved."""

    event: str
    path: str
    writes: bool


listening: list[list[Access]] = []


def hear(event: str, arguments: tuple[Any, ...]) -> None:
    if not listening:
        return
    changes = event in CHANGES or event.startswith("shutil.")
    if changes or event == "open" or event in LISTINGS:
        path = arguments[0]
        if isinstance(path, (str, bytes, os.PathLike)):
            path = os.path.realpath(os.fsdecode(path))
        elif not changes:
            return
        if event == "open":  # the mode of open(), the flags of os.open()
            changes = bool(set(arguments[1] or "") & set("wax+")) or bool(arguments[2] & 0b11)
        listening[-1].append(Access(event, str(path), changes))


@contextmanager
def watching(seen: list[Access] | None = None) -> Iterator[list[Access]]:
    """Files and folders that are opened, listed or changed, added to ``seen`` or a new list."""
    if not hasattr(sys, "audited_by_tests"):  # a hook stays for good
        sys.addaudithook(hear)
        sys.audited_by_tests = True  # type: ignore[attr-defined]
    listening.append([] if seen is None else seen)
    try:
        yield listening[-1]
    finally:
        listening.pop()


def outside(seen: list[Access], folder: Path) -> list[Access]:
    """Those not in the folder; Python's own modules do not count."""
    inside = (os.path.realpath(folder), sys.prefix, sys.base_prefix, ROOT)
    return [a for a in seen if not any(Path(a.path).is_relative_to(o) for o in inside)]
