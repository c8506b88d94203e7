"""How much memory is left for this process."""

from __future__ import annotations

from pathlib import Path

import psutil

# A container's limit and what it uses, in bytes: of control groups, version 2 and 1.
CONTAINER = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


def available_memory() -> int:
    """Bytes that can be had without swapping and within a container's limit."""
    available = psutil.virtual_memory().available
    for limit, used in CONTAINER:
        try:
            left = int(Path(limit).read_text()) - int(Path(used).read_text())
        except (OSError, ValueError):  # not there, or "max": no limit
            continue
        available = min(available, max(0, left))
    return available
