"""``docs/architecture.md`` is complete: each file has its line, and each path leads to a file."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.conftest import ROOT
from tests.repository import repository_files

PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
ENTRY = re.compile(r"^- (`[^`]+`(?:, `[^`]+`)*) — \S.*$", re.MULTILINE)
# What looks like a path of the repository: a folder, or a file with a folder or a suffix of ours.
PATH = re.compile(r"(?:[\w.-]+/)+(?:[\w-]+\.\w+)?|\w+\.py")


def listed_in(text: str) -> list[str]:
    return [path for paths in ENTRY.findall(text) for path in re.findall(r"`([^`]+)`", paths)]


LISTED = listed_in(PAGE)


def holds_only_a_docstring(path: Path) -> bool:
    body = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    return path.name == "__init__.py" and all(isinstance(node, ast.Expr) for node in body)


def must_be_listed(path: Path) -> bool:
    """The product's files with content, and the helpers directly under ``tests/``."""
    if path.parts[0] == "tests":
        return len(path.parts) == 2 and not path.name.startswith("test_")
    return path.suffix != ".py" or not holds_only_a_docstring(path)


def test_every_file_is_listed_once_and_every_listed_file_exists() -> None:
    assert len(LISTED) == len(set(LISTED))
    assert {str(path) for path in repository_files() if must_be_listed(path)} - set(LISTED) == set()
    assert {path for path in LISTED if not (ROOT / path).is_file()} == set()


def test_a_file_is_listed_under_its_folder() -> None:
    sections = re.split(r"^### ", PAGE.split("## The tree")[1], flags=re.MULTILINE)[1:]
    for section in sections:
        heading, *lines = section.splitlines()
        folder = heading.strip("`/") if heading.startswith("`") else ""
        for path in listed_in("\n".join(lines)):
            parent = str(Path(path).parent)
            assert parent == folder or (not folder and parent in (".", ".ci")), path


def test_every_path_in_the_text_exists() -> None:
    spans = re.findall(r"`([^`\n]+)`", PAGE)
    paths = {span for span in spans if PATH.fullmatch(span)}
    assert len(paths) > len(LISTED)
    assert {path for path in paths if not (ROOT / path).exists()} == set()
