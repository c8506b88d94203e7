"""The folder of one run: where it lies and the files in it that are not checkpoints."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.errors import UserError

CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.csv"
LAST = "last.pth"
BEST = "best.pth"
CURVES = "curves.png"
DETECTIONS = "detections.png"
REPORT = "report.html"
MONITOR_METRICS = "metrics.json"


def create_run_folder(output: Path, stem: str) -> Path:
    """A new folder ``output/stem`` or, where that exists, ``stem-2``, ``stem-3`` and so on."""
    number = 1
    while True:
        folder = output / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            if not folder.is_dir():
                raise UserError(f"--output {output}: {folder} is a file, not a folder.") from None
            number += 1
        except OSError as error:
            raise UserError(
                f"--output {output}: the folder {folder} cannot be made ({error}); give a folder "
                "that can be written to."
            ) from error


def make_folder(folder: Path) -> Path:
    """The folder, made if necessary. Raises UserError where that is impossible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"--output {folder}: is a file, or lies in one; give a folder.") from None
    except OSError as error:
        raise UserError(
            f"--output {folder}: the folder cannot be made ({error}); give one that can be "
            "written to."
        ) from error
    return folder


def refuse_inside(folder: Path, source: Path, what: str, flag: str = "--output") -> None:
    """Raise UserError where results would be written into ``source``, a folder of the user's.

    what: how the message names it. Links are followed, and names compared as the disk does.
    """
    resolved = folder.resolve()
    for parent in (resolved, *resolved.parents):
        if source.is_dir() and parent.exists() and parent.samefile(source):
            raise UserError(
                f"{flag} {folder}: lies in {source}, the folder of {what}, where nothing is ever "
                f"written; give {flag} a place outside of it."
            )


def find_last(run: Path) -> Path:
    """The checkpoint that continues a run, from the run's folder or the file itself."""
    last = run / LAST if run.is_dir() else run
    if not last.is_file():
        raise UserError(
            f"--resume {run}: there is no {last}; give a run's folder or its {LAST}. A run "
            "stopped before the end of its first epoch has to be started again with -t True."
        )
    return last


def write_text(text: str, path: Path) -> None:
    """As UTF-8, whole or not at all, like every file of a run's folder."""
    aside = path.with_name(f".{path.name}")
    # Bytes of a path that are not UTF-8 become escapes, which JSON knows too.
    aside.write_bytes(text.encode("utf-8", "backslashreplace"))
    os.replace(aside, path)


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Raises ValueError for nan, which JSON does not have."""
    write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", path)


def read_json(path: Path) -> dict[str, Any]:
    """Raises UserError naming the file when it is missing or does not hold a JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}).") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object.")
    return content


def write_metrics(rows: list[dict[str, Any]], path: Path) -> None:
    """One row per epoch, as CSV; absent values are empty."""
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    writer.writerows(rows)
    write_text(table.getvalue(), path)


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of ``write_metrics``, none without a file; empty values are nan.

    Raises UserError naming the file when it holds anything but numbers.
    """
    if not path.is_file():
        return []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return [
                {name: float(value) if value else float("nan") for name, value in row.items()}
                for row in csv.DictReader(file)
            ]
    except (ValueError, TypeError, csv.Error) as error:
        raise UserError(f"{path}: not what a run writes ({error}); remove the file.") from error
