"""The repository's own files, for the tests that read them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT


def repository_files() -> list[Path]:
    """Relative paths of all files that git tracks or would add; the test is skipped without git."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("git is not installed")
    if done.returncode:
        pytest.skip("not a git checkout")
    paths = {Path(name) for name in done.stdout.split("\0") if name}
    return sorted(path for path in paths if (ROOT / path).is_file())
