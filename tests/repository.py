"""The repository's own files, for the tests that read them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

# What is not the repository's own where git cannot say it.
LEFT_OUT = {".git", ".venv", "runs", "__pycache__", ".hypothesis"}


def repository_files() -> list[Path]:
    """Relative paths of all files that git tracks or would add; without git of all but caches."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        names = done.stdout.split("\0") if done.returncode == 0 else walked()
    except FileNotFoundError:
        names = walked()
    paths = {Path(name) for name in names if name}
    return sorted(path for path in paths if (ROOT / path).is_file())


def walked() -> Iterator[str]:
    for folder, inside, files in os.walk(ROOT):
        inside[:] = [n for n in inside if n not in LEFT_OUT and not n.endswith("cache")]
        yield from (
            os.path.relpath(os.path.join(folder, name), ROOT)
            for name in files
            if name not in LEFT_OUT
        )
