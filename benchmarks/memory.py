"""Peak memory of one detector at one work, in a process of its own."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

GIGABYTE = 1e9
# A freed block goes back to the system at once: otherwise the peak would count what the allocator
# kept of earlier steps.
ENVIRONMENT = {"MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_MMAP_THRESHOLD_": "65536"}


def peak_gigabytes(name: str, work: str, size: tuple[int, int], batch: int, cards: Path) -> float:
    """Of building the detector and two runs of its work. nan where it failed or was killed."""
    arguments = json.dumps([name, work, size, batch, str(cards)])
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **ENVIRONMENT},
    )
    return float(result.stdout.split()[-1]) if result.returncode == 0 else float("nan")


def _measure(name: str, work: str, size: tuple[int, int], batch: int, cards: str) -> float:
    import torch

    from benchmarks import peers
    from benchmarks.photographs import photographs

    images, targets = photographs(Path(cards), size, batch)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images = [image.to(device) for image in images]
    targets = [{key: value.to(device) for key, value in target.items()} for target in targets]
    ours = peers.our_b0(max(size), [image.cpu() for image in images], None)
    before = _resident()
    peer = peers.one_peer(name, ours, work, size, device)
    run = (
        peers.inference(peer, images)
        if work == "inference"
        else peers.training(peer, images, targets)
    )
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    _reset_peak()
    run()
    run()
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIGABYTE
    return (_peak() - before) / GIGABYTE


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return 0


def _resident() -> int:
    return _status("VmRSS:")


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    return _status("VmHWM:") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    print(_measure(*json.loads(sys.argv[1])))
