"""How much memory is left for this process."""

from __future__ import annotations

from pathlib import Path

import psutil

# Of control groups, version 2 and 1: the folder; the files of a container's limit and of what it
# uses, in bytes; and which line of memory.stat says how much of that are files it can let go of.
CONTAINERS = (
    ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    (
        "/sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


def available_memory() -> int:
    """Bytes that can be had without swapping and within a container's limit."""
    available = psutil.virtual_memory().available
    for folder, limit, used, files in CONTAINERS:
        try:
            left = int(Path(folder, limit).read_text()) - int(Path(folder, used).read_text())
            statistics = Path(folder, "memory.stat").read_text().split()
            left += int(dict(zip(statistics[::2], statistics[1::2], strict=False)).get(files, 0))
        except (OSError, ValueError):  # not there, or "max": no limit
            continue
        available = min(available, max(0, left))
    return available
