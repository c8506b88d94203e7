"""Check: a data set's table, everything that is wrong with it, and a verdict."""

from __future__ import annotations

from pathlib import Path

from data.checking.check import CLEAN, PROBLEMS, UNUSABLE, Check, SplitFacts, check_dataset
from data.remarks import Severity
from data.splits import VALIDATION_FRACTION
from utils.commands import changed_flags
from utils.config import Config
from utils.console import progress_bar, say, show_table
from utils.errors import UserError
from utils.lightning_setup import readable_failures
from utils.run_folder import refuse_inside, write_json
from utils.text import listed

EXIT_STATUS = {CLEAN: 0, PROBLEMS: 1, UNUSABLE: 2}
SIZES_SHOWN = 3


def launch(config: Config) -> int:
    """Check the data set ``config.path``; the exit status: 0 clean, 1 problems, 2 unusable.

    Unusable: training would refuse the set, or an image is damaged in its middle, which training
    notices only later.
    Writes nothing but the report, if ``config.check_report`` is set. Raises UserError where
    that cannot be written.
    """
    path = Path(config.path or "").expanduser()
    report = Path(config.check_report) if config.check_report else None
    if report is not None:
        _refuse_report(report, path)
    with progress_bar("images") as progress:
        check = check_dataset(
            path,
            validation_fraction=config.validation_fraction or VALIDATION_FRACTION,
            seed=config.seed,
            skip_bad_images=config.on_bad_image == "skip",
            split_flags=changed_flags(config, "validation_fraction", "seed"),
            progress=progress,
        )
    say("data", f"{check.layout or 'not recognised'}, {path}")
    if check.splits:
        _show_tables(check)
    _show_problems(check)
    if report is not None:
        with readable_failures():
            write_json(check.as_plain(), report)
        say("saved", str(report))
    say("verdict", _verdict(check))
    return EXIT_STATUS[check.verdict]


def _refuse_report(report: Path, data: Path) -> None:
    refuse_inside(report, data, "the data set", "--check-report")
    if report.is_dir() or not report.absolute().parent.is_dir():
        raise UserError(
            f"--check-report {report}: expected the name of a file in a folder that exists."
        )


def _show_tables(check: Check) -> None:
    splits = check.splits
    side = ["n/a" if s.object_side is None else f"{s.object_side:.0f}" for s in splits]
    rows = [
        ("images", *(str(s.images) for s in splits)),
        ("without objects", *(str(s.empty) for s in splits)),
        ("objects", *(str(s.objects) for s in splits)),
        ("difficult", *(str(s.difficult) for s in splits)),
        ("classes", *(str(s.classes) for s in splits)),
        ("object size (px)", *side),
        ("image sizes", *(_sizes(s) for s in splits)),
    ]
    names = [s.name for s in splits]
    show_table("Splits", ("", *names), rows)
    counts = [(name, *map(str, objects)) for name, objects in check.classes.items()]
    show_table("Objects of each class", ("class", *names), counts)


def _sizes(split: SplitFacts) -> str:
    """``378x504 (290), 640x480 (6) and 2 more``."""
    return listed([f"{w}x{h} ({n})" for (w, h), n in split.sizes.items()], SIZES_SHOWN)


def _show_problems(check: Check) -> None:
    for remark in check.remarks:
        if remark.severity is Severity.NOTE:
            say("note", remark.line())
    for remark in check.problems:
        label = "error" if check.refused(remark) else "problem"
        say(label, f"{remark.what}: {remark.count}" if remark.count else remark.what)
        for place in remark.places:
            say("", f"  {place}")
        if remark.count > len(remark.places):
            say("", f"  and {remark.count - len(remark.places)} more that are not listed")


def _verdict(check: Check) -> str:
    refused = sum(max(r.count, 1) for r in check.problems if check.refused(r))
    others = sum(max(r.count, 1) for r in check.problems) - refused
    minor = f"{others} problem(s) that training would go on with" if others else ""
    if check.verdict == CLEAN:
        return "clean"
    if check.verdict == PROBLEMS:
        return f"problems: {minor}"
    return f"unusable: {refused} thing(s) to put right first" + (f", {minor}" if minor else "")
