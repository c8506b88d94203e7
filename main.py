"""The command line: flags merged over the defaults of ``utils/config.py``, then one launch.

python main.py -t True -p ./cards -m efficientnet-b4    # train
python main.py -l ckpt.pth                              # monitor the mAP of a checkpoint
python main.py -l ckpt.pth --predict ./photos           # find the objects in your own images
python main.py --check -p ./cards                       # list what is wrong with a data set
"""

from __future__ import annotations

import optparse
import os
import sys
from importlib import import_module
from itertools import zip_longest
from typing import Any, NoReturn

from utils.commands import command_of, refuse_unused
from utils.config import Config, options
from utils.errors import UserError
from utils.option_groups import GROUPS
from utils.options import Command, Option, flag_of
from utils.resume_config import resumed_config

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130

USAGE = """%prog -t True [-p FOLDER] [-m MODEL] [options]    train
       %prog --resume RUN [options]                     resume: a run that was stopped goes on
       %prog -l FILE [-p FOLDER] [options]              monitor the mAP of a checkpoint
       %prog -l FILE --predict PATH [options]           predict: find the objects in your images
       %prog --check -p FOLDER [options]                check: list what is wrong with a data set"""

# The modules whose ``launch(config)`` does the work and returns the exit status. Imported when
# they are needed: they import what is heavy.
LAUNCHERS = {
    Command.TRAIN: "trainer",
    Command.RESUME: "trainer",
    Command.MONITOR: "monitor",
    Command.PREDICT: "predictor",
    Command.CHECK: "checker",
}


class Parser(optparse.OptionParser):
    """Reports a usage error as every other error of the user."""

    def error(self, msg: str) -> NoReturn:
        raise UserError(f"{msg} (--help shows every flag).")


def make_parser() -> optparse.OptionParser:
    """One flag for each field of ``Config``, in the groups of ``GROUPS``."""
    parser = Parser(usage=USAGE, description="Train and evaluate a RetinaNet on an EfficientNet.")
    groups: dict[str, Any] = {"": parser}
    for title, commands in list(GROUPS.items())[1:]:
        groups[title] = parser.add_option_group(f"{title} ({names_of(commands)})")
    for name, option in options().items():
        groups[option.group].add_option(
            *filter(None, (option.short, flag_of(name))),
            dest=name,
            type="string",
            default=None,
            metavar=option.metavar or name.upper(),
            help=_help_of(name, option),
        )
    return parser


def names_of(commands: tuple[Command, ...]) -> str:
    if commands == tuple(Command):
        return "every command"
    return ", ".join(command.name.lower() for command in commands)


def _help_of(name: str, option: Option) -> str:
    """What it means, its default, and its commands where they are not those of its group."""
    default = Config.__dataclass_fields__[name].default
    text = option.help if default is None else f"{option.help} [default: {default}]"
    is_usual = option.commands == GROUPS[option.group]
    return text if is_usual else f"{text} ({names_of(option.commands)})"


def read_flags(arguments: list[str]) -> dict[str, Any]:
    """The given values by the names of ``Config``'s fields.

    Raises UserError for an unknown flag, or a text that its flag cannot have.
    """
    parser = make_parser()
    texts, rest = parser.parse_args(_with_switches(arguments))
    if rest:
        parser.error(f"{rest[0]!r} belongs to no flag; every value follows its flag")
    given = {}
    for name, option in options().items():
        text = getattr(texts, name)
        if text is not None:
            try:
                given[name] = option.parse(text)
            except ValueError as error:
                parser.error(f"{flag_of(name)} {text}: {error}")
    return given


def _with_switches(arguments: list[str]) -> list[str]:
    """The arguments with the True that a switch alone stands for."""
    switches = {flag_of(name) for name, option in options().items() if option.is_switch}
    full: list[str] = []
    for argument, following in zip_longest(arguments, arguments[1:], fillvalue="-"):
        full.append(argument)
        if argument in switches and following.startswith("-"):
            full.append("True")
    return full


def configure(given: dict[str, Any]) -> tuple[Command, Config]:
    """The command and its configuration; raises UserError where the flags do not fit together."""
    command = command_of(given)
    config = resumed_config(given) if command is Command.RESUME else Config(**given)
    refuse_unused(command, given, config)
    return command, config


def run(command: Command, config: Config) -> int:
    """The exit status of the command's launcher."""
    if config.max_megapixels:
        from data.image_files.read import allow_megapixels

        allow_megapixels(config.max_megapixels)
    if command is not Command.CHECK:
        from model.cpu.switch import use_cpu_kernels

        use_cpu_kernels(config.cpu_kernels)
    return import_module(LAUNCHERS[command]).launch(config)


def main(arguments: list[str] | None = None) -> int:
    """Run the command that the arguments name; the exit status.

    0 finished; 1 finished, but images failed or the data has problems; 2 bad input;
    130 interrupted.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = False
    try:
        given = read_flags(arguments)
        debug = given.get("debug", False)
        command, config = configure(given)
        debug = config.debug
        return run(command, config)
    except UserError as error:
        if debug:
            raise
        from utils.console import harmless

        # The message quotes file names and annotations: it stays one line whatever they hold.
        print(f"error: {harmless(str(error))}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of the output (head, less) has ended: nothing more can be printed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
