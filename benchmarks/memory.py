"""Peak memory of one detector at one kind of work, in a process of its own."""

from __future__ import annotations

import gc
import math
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

GIGABYTE = 1e9
# A freed block is returned to the system at once: otherwise the peak would include what the
# allocator kept from earlier steps.
ENVIRONMENT = {"MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_MMAP_THRESHOLD_": "65536"}
STATUS = "/proc/self/status"  # only Linux reports a process's peak and can reset it


@dataclass(frozen=True)
class Case:
    """What is measured. work: inference or training. size: (height, width)."""

    work: str
    size: tuple[int, int]
    batch: int
    cards: Path
    device: str = "cpu"
    checkpoint: Path | None = None


def peak_gigabytes(name: str, case: Case) -> float:
    """The peak of two runs, weights included, above what was in use before the model was built.

    On a CPU the memory that the process took from the system, without the pages of program files;
    on a GPU the memory allocated there. nan where it failed, was killed or cannot be measured.
    """
    arguments = pickle.dumps((name, case)).hex()
    command = [sys.executable, "-m", "benchmarks.memory", arguments]
    environment = {**os.environ, **ENVIRONMENT}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    return math.nan if result.returncode else float(result.stdout.split()[-1])


def _measure(name: str, case: Case) -> float:
    import torch

    from benchmarks import peers
    from benchmarks.photographs import photographs

    device = torch.device(case.device)
    images, targets = photographs(case.cards, case.size, case.batch)
    on_device = [image.to(device) for image in images]
    truth = [{key: value.to(device) for key, value in target.items()} for target in targets]
    before = 0 if device.type == "cuda" else _status("RssAnon:")
    ours = peers.our_b0(max(case.size), images, case.checkpoint)
    peer = peers.one_peer(name, ours, case.work, case.size, device)
    del ours  # so that only what the peer shares with it is counted
    gc.collect()
    if peer is None:
        return math.nan
    run = peers.runner(peer, case.work, on_device, truth)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5")
    run()
    run()
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIGABYTE
    return (_status("VmHWM:") - _status("RssFile:") - before) / GIGABYTE


def _status(field: str) -> int:
    (line,) = (x for x in Path(STATUS).read_text().splitlines() if x.startswith(field))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    print(_measure(*pickle.loads(bytes.fromhex(sys.argv[1]))))
