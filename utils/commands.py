"""Which command the given flags mean, and whether it uses them all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from utils.config import Config, options
from utils.console import say
from utils.errors import UserError
from utils.option_groups import GUARD
from utils.options import KERNELS_APPLY, Command, flag_of, shown


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
                f"{flag_of(name)} {shown(value)}: python main.py {command.value} does not use it; "
                f"leave it out. It goes with {users}."
            )
        if name in without_effect:
            raise UserError(f"{flag_of(name)} {shown(value)}: {without_effect[name]}.")


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
    elif config.backbone_weights == "none":
        random = (
            "a backbone without pretrained weights trains as a whole, at the full learning rate"
        )
        reasons |= dict.fromkeys(("trainable_layers", "pretrained_backbone_factor"), random)
    if config.overfit:
        whole = "--overfit trains on its few images whole, nothing cut or pasted; leave it out"
        reasons |= dict.fromkeys(("window", "copy_paste"), whole)
    if config.device == "cuda" or config.precision == "bf16":
        reasons["cpu_kernels"] = f"the kernels are {KERNELS_APPLY}"
    if not config.gpu:
        guard = (name for name, option in options().items() if option.group == GUARD)
        reasons |= dict.fromkeys(guard, "only the temperature guard uses it; give -g True too")
    return reasons


def changed_flags(config: Config, *names: str) -> list[str]:
    """``--seed 5`` for each of the named fields whose value is not the default."""
    values = {name: getattr(config, name) for name in names}
    return [f"{flag_of(n)} {shown(v)}" for n, v in values.items() if v != getattr(Config, n)]


def note_unused(config: Config, reason: str, *names: str) -> None:
    """Say that the ``changed_flags`` have no effect, where only data or weights could tell."""
    for flag in changed_flags(config, *names):
        say("note", f"{flag} has no effect: {reason}")
