"""The command line: flags merged over the defaults of ``utils/config.py``, then one launch.

python main.py -t True -p ./cards -m efficientnet-b4    # train
python main.py -l ckpt.pth                              # monitor the mAP of a checkpoint
python main.py -l ckpt.pth --predict ./photos           # find the objects in your own pictures
python main.py --check -p ./cards                       # say what is wrong with a data set
"""

from __future__ import annotations

import optparse
import os
import sys
from itertools import zip_longest
from typing import Any, NoReturn

from utils.config import Config, flag_of, options
from utils.errors import UserError
from utils.options import Option
from utils.resume_config import resumed_config

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130

USAGE = """%prog -t True [-p FOLDER] [-m MODEL] [options]    train
       %prog -l FILE [-p FOLDER] [options]              monitor the mAP of a checkpoint
       %prog -l FILE --predict PATH [options]           find the objects in your own pictures
       %prog --check -p FOLDER [options]                say what is wrong with a data set"""


class Parser(optparse.OptionParser):
    """Reports a usage error as every other error of the user."""

    def error(self, msg: str) -> NoReturn:
        raise UserError(f"{msg} (--help shows every flag).")


def make_parser() -> optparse.OptionParser:
    """One flag for each field of ``Config``, in the groups that the fields name."""
    parser = Parser(usage=USAGE, description="Train and evaluate a RetinaNet on an EfficientNet.")
    groups: dict[str, optparse.OptionGroup] = {}
    for name, option in options().items():
        place: Any = parser
        if option.group:
            if option.group not in groups:
                groups[option.group] = parser.add_option_group(option.group)
            place = groups[option.group]
        flags = [flag for flag in (option.short, flag_of(name)) if flag]
        place.add_option(
            *flags,
            dest=name,
            type="string",
            default=None,
            metavar=option.metavar or name.upper(),
            help=_help_with_default(name, option),
        )
    return parser


def _help_with_default(name: str, option: Option) -> str:
    default = Config.__dataclass_fields__[name].default
    return option.help if default is None else f"{option.help} [default: {default}]"


def read_config(arguments: list[str]) -> Config:
    """Command line to ``Config``; raises UserError for a flag or value that makes no sense."""
    parser = make_parser()
    values, rest = parser.parse_args(_with_switches(arguments))
    if rest:
        parser.error(f"{rest[0]!r} belongs to no flag; every value follows its flag")
    given = {}
    for name, option in options().items():
        text = getattr(values, name)
        if text is None:
            continue
        try:
            given[name] = option.parse(text)
        except ValueError as error:
            parser.error(f"{flag_of(name)} {text}: {error}")
    if given.get("check"):
        _refuse_beside_check(parser, given)
    if "predict" in given and (given.get("train") or "resume" in given):
        parser.error(
            f"--predict {given['predict']}: finds objects with a trained detector, and does not go "
            "with -t True or --resume; give one or the other"
        )
    return resumed_config(given) if "resume" in given else Config.merged(given)


def _with_switches(arguments: list[str]) -> list[str]:
    """The arguments with the True that a switch alone stands for."""
    switches = {flag_of(name) for name, option in options().items() if option.is_switch}
    full: list[str] = []
    for argument, following in zip_longest(arguments, arguments[1:], fillvalue="-"):
        full.append(argument)
        if argument in switches and following.startswith("-"):
            full.append("True")
    return full


def _refuse_beside_check(parser: optparse.OptionParser, given: dict[str, Any]) -> None:
    others = [flag_of(name) for name in ("train", "resume", "load", "predict") if given.get(name)]
    if others:
        parser.error(
            f"--check looks at a data set and does nothing else; it does not go with {others[0]}"
        )


def run(config: Config) -> int:
    """Check, predict, train or monitor; the exit status. Heavy imports wait for their need."""
    if config.max_megapixels:
        from data.image_files.read import allow_megapixels

        allow_megapixels(config.max_megapixels)
    if config.check and not config.path:
        raise UserError("--check: which data set is meant? Give its folder with -p.")
    if config.check:
        import checker

        return checker.launch(config)
    if config.check_report:
        raise UserError(f"--check-report {config.check_report}: goes with --check.")
    if config.predict and not config.load:
        raise UserError(
            f"--predict {config.predict}: which detector is meant? Give its checkpoint with -l "
            "FILE, the best.pth of a run."
        )
    if config.predict:
        import predictor

        return predictor.launch(config)
    if config.train or config.resume:
        import trainer

        trainer.launch(config)
    elif config.load:
        import monitor

        monitor.launch(config)
    else:
        raise UserError(
            "nothing to do: give -t True to train, or -l FILE to monitor a checkpoint or, with "
            "--predict PATH, to find the objects in pictures (--help shows everything)."
        )
    return 0


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0 done, 1 problems in pictures or data, 2 bad input, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = False
    try:
        config = read_config(arguments)
        debug = config.debug
        return run(config)
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
        # Whoever read the output (head, less) is gone; there is no one left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
