"""The benchmark's rows as tables, JSON and Markdown, with the machine they were measured on."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Any

import psutil
import torch

PACKAGES = ("torch", "torchvision", "efficientnet-pytorch", "effdet", "pycocotools", "pillow")
MARK = "<!-- What follows is written by python -m benchmarks.speed --markdown. -->\n\n"
COLUMNS = ("work", "candidate", "median", "times as good", "against the reference")


@dataclass(frozen=True)
class Row:
    """One candidate at one kind of work. ratio: the reference's value over this one's.

    difference: of its results from the reference's, where they were compared.
    """

    work: str
    candidate: str
    value: float
    ratio: float
    difference: str = ""
    is_equal: bool = True
    unit: str = "s"

    @property
    def cells(self) -> tuple[str, ...]:
        ratio = f"{self.ratio:.2f}" if self.is_equal else "NOT EQUAL"
        value = f"{self.value:.3f} {self.unit}"
        return self.work, self.candidate, value, ratio, self.difference


def as_json(rows: Sequence[Row], facts: dict[str, Any]) -> str:
    """The facts, and under ``rows`` the rows."""
    content = {**facts, "rows": [dataclasses.asdict(row) for row in rows]}
    return json.dumps(content, indent=2) + "\n"


def as_markdown(rows: Sequence[Row], facts: dict[str, Any]) -> str:
    """The facts, and a table for each work."""
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    for work, group in groupby(rows, key=lambda row: row.work):
        lines += ["", f"### {work}", ""]
        lines += ["| " + " | ".join(COLUMNS[1:]) + " |", "|---|---|---|---|"]
        lines += ["| " + " | ".join(row.cells[1:]) + " |" for row in group]
    if not torch.cuda.is_available():
        no_card = "GPU: not part of this run; `make bench` on a machine that has one measures it."
        lines += ["", no_card]
    return "\n".join(lines) + "\n"


def write_below_mark(text: str, file: Path) -> None:
    """Replace what follows ``MARK`` in the file by the text; the rest stays."""
    above = file.read_text(encoding="utf-8").split(MARK)[0] if file.is_file() else ""
    file.write_text(above + MARK + text, encoding="utf-8")


def machine() -> str:
    """Processor, threads, memory, and the GPU if there is one."""
    memory = psutil.virtual_memory().total / 1e9
    processor = f"{_processor()}, {torch.get_num_threads()} threads, {memory:.0f} GB"
    card = f"; {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{processor}, {torch.backends.cpu.get_cpu_capability()}{card}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def facts(weights: str) -> dict[str, Any]:
    """What the measurements depend on."""
    return {
        "machine": machine(),
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {_version(name)}" for name in PACKAGES),
        "commit": _commit(),
        "date": date.today().isoformat(),
        "weights": weights,
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    except OSError:  # no git
        return "unknown"
    return result.stdout.strip() or "unknown"
