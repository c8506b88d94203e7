"""How a row of the configuration's table is written: the commands and groups of its flags."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

from utils.options import Command, Option

TRAIN, RESUME, MONITOR, PREDICT, CHECK = EVERY = tuple(Command)
COMPUTING = (TRAIN, RESUME, MONITOR, PREDICT)
READING = (TRAIN, RESUME, MONITOR, CHECK)  # those that open a data set
FROM_WEIGHTS = (TRAIN, MONITOR, PREDICT)  # those that may begin with a checkpoint

GUARD = "Temperature guard with -g True"
# The groups of --help in their order, and the commands of an option that names none itself.
GROUPS = {
    "": COMPUTING,
    "Common": COMPUTING,
    "Training": (TRAIN,),
    "Model": FROM_WEIGHTS,
    "Data": (TRAIN,),
    "Monitor": (MONITOR,),
    "Check": (CHECK,),
    GUARD: COMPUTING,
}


def option(default: Any, help: str, group: str = "", **more: Any) -> Any:
    row = Option(help, group, **{"commands": GROUPS[group], **more})
    return dataclasses.field(default=default, metadata={"option": row})


common = partial(option, group="Common")
training = partial(option, group="Training")
model = partial(option, group="Model")
data = partial(option, group="Data")
guard = partial(option, group=GUARD)
