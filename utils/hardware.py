"""Which device computes, in which precision, and how much memory is left."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.nn.functional as F

from utils.console import say
from utils.errors import UserError
from utils.options import KERNELS_APPLY

# In fp32 on a CPU the 3x3 convolutions of the heads take a quarter of the multiplications and about
# a third of the time (``model.cpu.winograd``); in bf16 they do not.
LEAST_BF16_SPEEDUP = 3.0


def choose_device(requested: str | None) -> torch.device:
    """``cuda`` or ``cpu`` as requested; by default cuda where it is available.

    Raises UserError when cuda is requested and not available: a run that silently used the CPU
    would take days.
    """
    if requested == "cuda" and not torch.cuda.is_available():
        reason = "this PyTorch was built without CUDA"
        if torch.version.cuda is not None:
            reason = "PyTorch finds no usable card or driver"
        raise UserError(f"--device cuda: {reason}; give --device cpu, or leave the flag out.")
    return torch.device(requested or ("cuda" if torch.cuda.is_available() else "cpu"))


def choose_precision(requested: str, device: torch.device) -> str:
    """``fp32`` or ``bf16``; ``auto`` takes bf16 where the hardware is faster in it.

    A card with bf16 instructions is; a CPU may be slower with them, so it is measured.
    """
    if requested != "auto":
        return requested
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    is_faster = _cpu_computes_bf16() and bf16_speedup() > LEAST_BF16_SPEEDUP
    return "bf16" if is_faster else "fp32"


@torch.inference_mode()
def bf16_speedup() -> float:
    """How many times as fast as in fp32 the CPU convolves in bf16; takes about 100 ms."""
    shortest = {}
    for dtype in (torch.float32, torch.bfloat16):
        weight = torch.zeros(256, 256, 3, 3, dtype=dtype)
        image = torch.zeros(1, 256, 32, 32, dtype=dtype)
        times = []
        for _ in range(6):
            start = time.perf_counter()
            F.conv2d(image, weight, padding=1)
            times.append(time.perf_counter() - start)
        shortest[dtype] = min(times)
    return shortest[torch.float32] / shortest[torch.bfloat16]


def _cpu_computes_bf16() -> bool:
    # PyTorch has no public functions for this, and may rename these.
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in names)


@dataclass(frozen=True)
class Machine:
    """What a run computes on. precision: ``fp32`` or ``bf16``."""

    device: torch.device
    precision: str

    @classmethod
    def choose(cls, device: str | None, precision: str, cpu_kernels: bool = True) -> Machine:
        """From the flags. Raises UserError when the device is not available."""
        chosen = choose_device(device)
        machine = cls(chosen, choose_precision(precision, chosen))
        if not cpu_kernels and (chosen.type, machine.precision) != ("cpu", "fp32"):
            say("note", f"--cpu-kernels False has no effect: the kernels are {KERNELS_APPLY}")
        return machine

    def __str__(self) -> str:
        if self.device.type == "cuda":
            return f"cuda, {torch.cuda.get_device_name(self.device)}, {self.precision}"
        return f"cpu, {torch.get_num_threads()} threads, {self.precision}"

    def autocast(self) -> AbstractContextManager[None]:
        """A context in which convolutions compute as in training."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def trainer_options(self) -> dict[str, Any]:
        """For Lightning's Trainer."""
        return {
            "accelerator": "gpu" if self.device.type == "cuda" else "cpu",
            "devices": 1,
            "precision": {"fp32": "32-true", "bf16": "bf16-mixed"}[self.precision],
        }


# Control groups, version 2 and 1: the folder; the files of a container's memory limit and usage, in
# bytes; and the line of memory.stat with the part of the usage that is reclaimable file cache.
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
    """Bytes that can be allocated without swapping and within a container's limit."""
    available = psutil.virtual_memory().available
    for folder, limit, used, files in CONTAINERS:
        try:
            left = int(Path(folder, limit).read_text()) - int(Path(folder, used).read_text())
            statistics = Path(folder, "memory.stat").read_text().split()
            left += int(dict(zip(statistics[::2], statistics[1::2], strict=False)).get(files, 0))
        except (OSError, ValueError):  # no such file, or "max": no limit
            continue
        available = min(available, max(0, left))
    return available
