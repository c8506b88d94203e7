"""The configuration of a run that goes on: the one it was started with, and what may change."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.config import Config, flag_of
from utils.errors import UserError
from utils.run_folder import CONFIG_FILE, find_last, read_json

# Where and how a run computes may change when it goes on; what it computes may not.
MAY_CHANGE = frozenset(
    {
        "path",
        "device",
        "gpu",
        "workers",
        "train",
        "resume",
        "epochs",
        "cache",
        "cache_folder",
        "compile",
        "precision",
        "on_bad_image",
        "max_megapixels",
        "delay_time",
        "high_temp",
        "low_temp",
        "max_pause",
        "score_threshold",
        "cpu_kernels",
        "verify_metrics",
        "debug",
    }
)


def resumed_config(given: Mapping[str, Any]) -> Config:
    """The ``config.json`` of the run ``given["resume"]``, with the flags that may change.

    Raises UserError, naming both values, for a flag that would make it another run.
    """
    run = find_last(Path(given["resume"])).parent
    saved = read_json(run / CONFIG_FILE)
    if isinstance(saved.get("cache"), str):  # what runs called it before images were cached
        saved["cache_folder"] = saved.pop("cache")
    for name, value in given.items():
        if name not in MAY_CHANGE and saved.get(name) != value:
            raise UserError(
                f"{flag_of(name)} {value}: the run {run} was started with {saved.get(name)}; leave "
                "the flag out, or start a new run with -t True -l."
            )
    try:
        # The checkpoint remembers the data set's absolute path; the saved one may be relative.
        return Config(**{**saved, "path": None, **given})
    except TypeError as error:
        raise UserError(
            f"{run / CONFIG_FILE}: written by another version of the program ({error}); start a "
            f"new run with -t True -l {run}/last.pth."
        ) from error
