"""The configuration of a run that goes on: the one it was started with, and what may change."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.config import OF_CHECKPOINT, Config, options
from utils.errors import UserError
from utils.options import Command, flag_of, shown
from utils.run_folder import CONFIG_FILE, find_last, read_json


def resumed_config(given: Mapping[str, Any]) -> Config:
    """The ``config.json`` of the run ``given["resume"]``, with the flags that may change.

    Raises UserError, naming both values, for a flag that would make it another run. What the run
    left to its checkpoint (``OF_CHECKPOINT``) is compared with the checkpoint, by who loads it.
    """
    run = find_last(Path(given["resume"])).parent
    started = _started_config(run)
    changes = {}
    for name, value in given.items():
        before, commands = getattr(started, name), options()[name].commands
        if Command.RESUME in commands or (before is None and name in OF_CHECKPOINT):
            changes[name] = value
        elif Command.TRAIN in commands and before != value:
            was = "without it" if before is None else f"with {shown(before)}"
            raise UserError(
                f"{flag_of(name)} {shown(value)}: the run {run} was started {was}; leave the flag "
                "out, or start a new run with -t True -l."
            )
    # The checkpoint remembers the data set's absolute path; the saved one may be relative.
    return Config(**{**vars(started), "path": None, **changes})


def _started_config(run: Path) -> Config:
    saved = read_json(run / CONFIG_FILE)
    if isinstance(saved.get("cache"), str):  # what runs called it before images were cached
        saved["cache_folder"] = saved.pop("cache")
    for name in ("window", "copy_paste"):  # an older run did neither
        saved.setdefault(name, 0)
    try:
        return Config.from_plain(saved)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{run / CONFIG_FILE}: written by another version of the program ({error}); start a "
            f"new run with -t True -l {run}/last.pth."
        ) from error
