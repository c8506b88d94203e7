"""Which command the flags mean, and that none of them is ignored."""

from __future__ import annotations

from typing import Any

import pytest

from utils.commands import changed_flags, command_of, refuse_unused
from utils.config import Config, options
from utils.errors import UserError
from utils.options import OFF, Budget, Command, flag_of, shown

GIVEN: dict[Command, dict[str, Any]] = {
    Command.TRAIN: {"train": True},
    Command.RESUME: {"resume": "runs/x"},
    Command.MONITOR: {"load": "x.pth"},
    Command.PREDICT: {"load": "x.pth", "predict": "photos"},
    Command.CHECK: {"check": True, "path": "cards"},
}


RANDOM, IMAGENET = {"backbone_weights": "none"}, {"backbone_weights": "imagenet"}


def refuse(command: Command, **given: Any) -> None:
    given = {**GIVEN[command], **given}
    refuse_unused(command, given, Config(**given))


@pytest.mark.parametrize(
    ("given", "command"),
    [
        *((given, command) for command, given in GIVEN.items()),
        ({"train": True, "load": "x.pth"}, Command.TRAIN),
        ({"train": True, "resume": "runs/x"}, Command.RESUME),
        ({"train": False, "load": "x.pth"}, Command.MONITOR),
        ({"check": False, "load": "x.pth"}, Command.MONITOR),
    ],
)
def test_the_flags_mean_one_command(given: dict[str, Any], command: Command) -> None:
    assert command_of(given) is command
    assert command_of({**given, "workers": 0}) is command


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"check": False, "path": "x"}, ["nothing to do"]),
        ({"check": True}, ["--check", "-p"]),
        ({"predict": "photos"}, ["--predict photos", "-l FILE"]),
        ({"check": True, "path": "x", "train": True}, ["--check", "-t True"]),
        ({"check": True, "path": "x", "predict": "y"}, ["--check", "--predict y"]),
        ({"check": True, "path": "x", "resume": "y"}, ["--check", "--resume y"]),
        ({"predict": "y", "load": "x", "train": True}, ["--predict y", "-t True"]),
        ({"predict": "y", "load": "x", "resume": "z"}, ["--predict y", "--resume z"]),
    ],
)
def test_no_command_and_two_commands_are_a_line_that_names_them(
    given: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        command_of(given)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("command", Command)
@pytest.mark.parametrize("name", options())
def test_a_flag_that_the_command_does_not_use_is_refused_with_both_names(
    name: str, command: Command
) -> None:
    """At its default as well: what is given is never ignored."""
    commands, value = options()[name].commands, getattr(Config(), name)
    if command in commands or name in GIVEN[command]:
        return
    if command is Command.RESUME and Command.TRAIN in commands:
        return refuse(command, **{name: value})  # it is compared with the run's own
    with pytest.raises(UserError) as caught:
        refuse(command, **{name: value})
    message = str(caught.value)
    assert message.startswith(f"{flag_of(name)} {shown(value)}: python main.py {command.value} ")
    assert all(user.value in message for user in commands)


@pytest.mark.parametrize(
    ("command", "given", "reason"),
    [
        (Command.TRAIN, {"path": "x", "demo_images": 20}, "with -p no images are drawn"),
        (Command.MONITOR, {"path": "x", "cache_folder": "y"}, "with -p no images are drawn"),
        (Command.TRAIN, {"validation_fraction": 0.3}, "without -p the drawn cards"),
        (Command.TRAIN, {"load": "x", "validation_fraction": 0.3}, "checkpoint remembers"),
        (Command.TRAIN, {"load": "x", "demo_images": 20}, "checkpoint remembers"),
        (Command.TRAIN, {"load": "x", "backbone_weights": "none"}, "given with -l"),
        (Command.TRAIN, {"load": "x", "path": "y", "crop_pretraining": "off"}, "given with -l"),
        (Command.TRAIN, {**RANDOM, "trainable_layers": 3}, "without pretrained weights"),
        (Command.TRAIN, {**RANDOM, "pretrained_backbone_factor": 0.5}, "without pretrained"),
        (Command.TRAIN, {"overfit": 8, "window": 160}, "images whole"),
        (Command.TRAIN, {"overfit": 8, "copy_paste": 1}, "images whole"),
        (Command.PREDICT, {"device": "cuda", "cpu_kernels": False}, "fp32 on a CPU"),
        (Command.RESUME, {"precision": "bf16", "cpu_kernels": False}, "fp32 on a CPU"),
        (Command.TRAIN, {"high_temp": 80.0}, "-g True"),
        (Command.RESUME, {"max_pause": 80.0}, "-g True"),
        (Command.PREDICT, {"delay_time": 1.0}, "-g True"),
    ],
)
def test_a_flag_without_effect_beside_the_others_is_refused_with_the_reason(
    command: Command, given: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        refuse(command, **given)
    assert flag_of(list(given)[-1]) in str(caught.value)


def test_the_same_flags_are_taken_where_they_have_an_effect() -> None:
    refuse(Command.TRAIN, demo_images=20, cache_folder="y", backbone_weights="none")
    refuse(Command.TRAIN, path="x", validation_fraction=0.3, gpu=True, high_temp=80.0)
    refuse(Command.TRAIN, path="x", load="y", validation_fraction=0.3, seed=1)
    refuse(Command.TRAIN, load="x", trainable_layers=3, pretrained_backbone_factor=0.5)
    refuse(Command.TRAIN, **RANDOM, crop_pretraining=Budget(minutes=3), cpu_kernels=False)
    refuse(Command.TRAIN, **IMAGENET, crop_pretraining=OFF, trainable_layers=3)
    refuse(Command.CHECK, validation_fraction=0.3, seed=1)
    refuse(Command.MONITOR, cache_folder="y", overfit=3)


def test_the_changed_flags_are_named_as_they_are_typed() -> None:
    names = ("validation_fraction", "seed", "low_temp", "crop_pretraining")
    assert changed_flags(Config(), *names) == []
    config = Config(validation_fraction=0.2, low_temp=60.0, crop_pretraining=Budget(minutes=3))
    typed = ["--validation-fraction 0.2", "--low-temp 60", "--crop-pretraining 3min"]
    assert changed_flags(config, *names) == typed
