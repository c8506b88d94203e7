"""Which command the given flags mean, whether it uses them all, and what a resumed run keeps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.config import GUARD, NEW_DETECTOR, Config, flag_of, options
from utils.errors import UserError
from utils.options import Command
from utils.run_folder import CONFIG_FILE, find_last, read_json


def command_of(given: Mapping[str, Any]) -> Command:
    """The command of the given flags, values by the names of ``Config``'s fields.

    Raises UserError where they mean none, or two, or lack what the command works on.
    """
    chosen = {
        Command.CHECK: "--check" if given.get("check") else "",
        Command.PREDICT: f"--predict {given['predict']}" if "predict" in given else "",
        Command.RESUME: f"--resume {given['resume']}" if "resume" in given else "",
        # A run that goes on is trained.
        Command.TRAIN: "-t True" if given.get("train") and "resume" not in given else "",
    }
    commands = [command for command, words in chosen.items() if words]
    if len(commands) > 1:
        first, second = (chosen[command] for command in commands[:2])
        raise UserError(f"{first} does not go with {second}: each is a command; give one of them.")
    if not commands and "load" not in given:
        raise UserError(
            "nothing to do: give -t True to train, or -l FILE to monitor a checkpoint or, with "
            "--predict PATH, to find the objects in images (--help shows everything)."
        )
    command = commands[0] if commands else Command.MONITOR
    if command is Command.CHECK and "path" not in given:
        raise UserError("--check: which data set is meant? Give its folder with -p.")
    if command is Command.PREDICT and "load" not in given:
        raise UserError(
            f"{chosen[command]}: which detector is meant? Give its checkpoint with -l FILE, the "
            "best.pth of a run."
        )
    return command


def refuse_unused(command: Command, given: Mapping[str, Any], config: Config) -> None:
    """Raise UserError for a given flag that the command does not use, naming both.

    config: what the command is about to run with, of which ``given`` is a part.
    """
    table, without_effect = options(), _without_effect(config)
    for name, value in given.items():
        commands = table[name].commands
        if command is Command.RESUME and Command.TRAIN in commands and command not in commands:
            continue  # it repeats what the run was started with: see ``resumed_config``
        if command not in commands:
            users = " or ".join(user.value for user in commands)
            raise UserError(
                f"{flag_of(name)} {value}: python main.py {command.value} does not use it; leave "
                f"it out. It goes with {users}."
            )
        if name in without_effect:
            raise UserError(f"{flag_of(name)} {value}: {without_effect[name]}.")


def _without_effect(config: Config) -> dict[str, str]:
    """Flags that a command uses, but not beside its others: the field's name and why not."""
    reasons: dict[str, str] = {}
    if config.path:
        drawing = "with -p no images are drawn; leave one of the two out"
        reasons |= dict.fromkeys(("demo_images", "cache_folder"), drawing)
    elif config.load:
        remembered = "without -p the data set is the one that the checkpoint remembers; give -p too"
        reasons |= dict.fromkeys(("demo_images", "validation_fraction"), remembered)
    else:
        reasons["validation_fraction"] = "without -p the drawn cards have their own split; give -p"
    if config.load:
        weights = "the weights are those of the checkpoint given with -l; leave one of the two out"
        reasons |= dict.fromkeys(("backbone_weights", "crop_pretraining"), weights)
    if not config.gpu:
        guard = (name for name, option in options().items() if option.group == GUARD)
        reasons |= dict.fromkeys(guard, "only the temperature guard uses it; give -g True too")
    return reasons


def resumed_config(given: Mapping[str, Any]) -> Config:
    """The ``config.json`` of the run ``given["resume"]``, with the flags that may change.

    Raises UserError, naming both values, for a flag that would make it another run. What the run
    left to its checkpoint (``NEW_DETECTOR``) is compared with the checkpoint, by who loads it.
    """
    run = find_last(Path(given["resume"])).parent
    started = _started_config(run)
    changes = {}
    for name, value in given.items():
        before, commands = getattr(started, name), options()[name].commands
        if Command.RESUME in commands or (before is None and name in NEW_DETECTOR):
            changes[name] = value
        elif Command.TRAIN in commands and before != value:
            was = "without it" if before is None else f"with {before}"
            raise UserError(
                f"{flag_of(name)} {value}: the run {run} was started {was}; leave the flag out, or "
                "start a new run with -t True -l."
            )
    # The checkpoint remembers the data set's absolute path; the saved one may be relative.
    return Config(**{**vars(started), "path": None, **changes})


def _started_config(run: Path) -> Config:
    saved = read_json(run / CONFIG_FILE)
    if isinstance(saved.get("cache"), str):  # what runs called it before images were cached
        saved["cache_folder"] = saved.pop("cache")
    try:
        return Config.from_plain(saved)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{run / CONFIG_FILE}: written by another version of the program ({error}); start a "
            f"new run with -t True -l {run}/last.pth."
        ) from error
