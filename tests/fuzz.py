"""A fuzzer for the readers: whatever stands in a file, a data set loads or one readable line says
why not.

``python -m tests.fuzz --mutations 20000 --seed 0`` damages the annotation files of tiny data sets,
one file at a time and sometimes two, opens each set and fetches every image. ``--only NUMBER``
repeats one mutation.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import torch

from data import open_dataset
from data.dataset import Dataset
from tests.fuzz_data import SIZES, Victim, write_victims
from utils.console import harmless
from utils.errors import UserError

# Seconds of processor time for a data set of six images, which takes a few milliseconds.
LIMIT = 30.0


class Lost(Exception):
    """A data set that loaded wrongly, or an error that tells a user nothing."""


class Hung(BaseException):
    """Out of reach of a reader's ``except Exception``."""


@dataclass(frozen=True)
class Loss:
    """A mutation whose outcome is neither samples nor a UserError. files: inside the data set."""

    number: int
    layout: str
    files: dict[Path, bytes]
    problem: str


@dataclass
class Tally:
    """What became of the mutations of one layout. samples: images fetched."""

    loaded: int = 0
    samples: int = 0
    errors: int = 0
    losses: list[Loss] = field(default_factory=list)


def fuzz(
    victims: list[Victim],
    numbers: Iterable[int],
    seed: int,
    *,
    limit: float = LIMIT,
    report: Callable[[Loss], None] = lambda loss: None,
) -> dict[str, Tally]:
    """Try the mutations of these numbers, over all layouts; afterwards the files are as before.

    limit: seconds of processor time after which a data set counts as hung. report: called for each
    loss at once.
    """
    tallies = {victim.layout: Tally() for victim in victims}
    for number in numbers:
        victim = victims[number % len(victims)]
        mutants = victim.mutants(seed, number)
        tally = tallies[victim.layout]
        try:
            _write(mutants)
            tally.samples += probe(victim.folder, limit)
            tally.loaded += 1
        except UserError as error:
            problem = _complaint(str(error), "the error")
            tally.errors += not problem
        except (Exception, Hung) as error:
            problem = f"{type(error).__name__}: {error}"
        else:
            problem = ""
        finally:
            _write({file: victim.originals[file] for file in mutants})
        if problem:
            files = {file.relative_to(victim.folder): raw for file, raw in mutants.items()}
            tally.losses.append(Loss(number, victim.layout, files, problem))
            report(tally.losses[-1])
    return tallies


def _write(files: dict[Path, bytes]) -> None:
    for file, content in files.items():
        file.write_bytes(content)


def probe(folder: Path, limit: float = LIMIT) -> int:
    """Open a data set and fetch every image of both splits; how many there were.

    Raises UserError as the readers do, Lost for a wrong sample, Hung, and what else they raise; a
    warning that a user would see is an error.
    """
    with _limited(limit), warnings.catch_warnings():
        warnings.simplefilter("error")
        # Python's own, for programmers: an XML file can declare a codec that warns of escapes.
        warnings.simplefilter("ignore", DeprecationWarning)
        splits = open_dataset(folder)
        for note in splits.notes:
            if complaint := _complaint(note, "a note"):
                raise Lost(complaint)
        for dataset in (splits.train, splits.validation):
            for index in range(len(dataset)):
                check_sample(dataset, index, SIZES[dataset.path(index).stem])
        return len(splits.train) + len(splits.validation)


def check_sample(dataset: Dataset, index: int, size: tuple[int, int] | None = None) -> None:
    """Raises Lost where an image and its target do not go together. size: the image's, if known."""
    image, target = dataset[index]
    height, width = image.shape[-2:]
    boxes, labels = target["boxes"].as_subclass(torch.Tensor), target["labels"]
    known = size in (None, (width, height))
    if not known or image.dtype != torch.uint8 or target["image_id"] != index:
        raise Lost(f"image {index} is not what was drawn")
    if boxes.dtype != torch.float32 or boxes.shape != (len(labels), 4):
        raise Lost(f"boxes {boxes.dtype} {tuple(boxes.shape)} for {len(labels)} labels")
    if target["difficult"].shape != labels.shape or target["difficult"].dtype != torch.bool:
        raise Lost(f"flags {target['difficult']} for {len(labels)} labels")
    # A comparison with nan is false, so that these are finite as well.
    inside = (boxes >= 0).all() and (boxes <= torch.tensor([width, height] * 2)).all()
    if not inside or not (boxes[:, :2] < boxes[:, 2:]).all():
        raise Lost(f"boxes {boxes.tolist()} in an image of {width}x{height}")
    if labels.dtype != torch.int64 or not set(labels.tolist()) <= set(
        range(1, len(dataset.class_names) + 1)
    ):
        raise Lost(f"labels {labels.tolist()} of {len(dataset.class_names)} classes")


def _complaint(text: str, what: str) -> str:
    if not text.strip():
        return f"{what} is empty"
    return f"{what} is of several lines: {text!r}" if len(text.splitlines()) > 1 else ""


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise Hung(f"no end after {seconds:g} s of processor time")

    # Processor time and not the clock's, so that a busy machine finds no losses.
    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 1 when a mutation was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--mutations", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="NUMBER", help="repeat one mutation")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="save what was lost there")
    flags = parser.parse_args(arguments)
    numbers = range(flags.mutations) if flags.only is None else [flags.only]

    def report(loss: Loss) -> None:
        files = ", ".join(map(str, loss.files))
        problem = f"{loss.layout}, {files}: {harmless(loss.problem)}"
        print(f"lost: --seed {flags.seed} --only {loss.number}: {problem}", flush=True)
        if flags.keep:
            flags.keep.mkdir(parents=True, exist_ok=True)
            for file, content in loss.files.items():
                kept = f"{flags.seed}-{loss.number}-{'-'.join(file.parts)}"
                (flags.keep / kept).write_bytes(content)

    with tempfile.TemporaryDirectory() as folder:
        tallies = fuzz(write_victims(Path(folder)), numbers, flags.seed, report=report)
    print(f"{'layout':<16}{'loaded':>8}{'samples':>9}{'errors':>8}{'lost':>6}")
    for layout, t in tallies.items():
        print(f"{layout:<16}{t.loaded:>8}{t.samples:>9}{t.errors:>8}{len(t.losses):>6}")
    every = tallies.values()
    lost = sum(len(t.losses) for t in every)
    print(
        f"seed {flags.seed}, {len(numbers)} mutations: {sum(t.loaded for t in every)} data sets "
        f"loaded with {sum(t.samples for t in every)} samples, {sum(t.errors for t in every)} "
        f"errors, {lost} lost"
    )
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
