"""The embedded data set: pictures of playing cards, drawn by the program in the card layout.

The layout is that of the photographed playing cards: ``train_labels.csv`` and
``test_labels.csv`` beside the folders ``train/`` and ``test/``. Nothing is downloaded.
"""

from __future__ import annotations

import csv
import multiprocessing
import shutil
import signal
import tempfile
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np

from data.drawn_cards.scene import draw_scene
from data.image_files.read import processors
from utils.errors import UserError

# Part of the cached folder's name: raise it whenever the pictures change.
GENERATOR_VERSION = 4

HEADER = ("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax")
_SPLITS = ("train", "test")
SMALL_SET = 50
_JPEG_QUALITY = (70, 92)

Progress = Callable[[int, int], None]
Row = tuple[str | int, ...]


def demo_cards_folder(
    cache: Path, train: int, validation: int, seed: int = 0, progress: Progress | None = None
) -> Path:
    """The folder of a drawn data set below ``cache``; drawn if it is not there.

    Arguments and errors are those of ``write_demo_cards``.
    """
    folder = cache / f"demo-cards-{GENERATOR_VERSION}-demo-{train}-{validation}-{seed}"
    if folder.is_dir():
        return folder
    return write_demo_cards(folder, train, validation, seed, progress)


def write_demo_cards(
    folder: Path, train: int, validation: int, seed: int = 0, progress: Progress | None = None
) -> Path:
    """Draw a data set into the new folder ``folder`` and return it.

    train, validation: number of pictures. progress: called with (drawn, all) after each picture.
    A picture depends on (seed, split, index) alone. The set is drawn beside ``folder`` and
    renamed when complete, so it is there whole or not at all. Raises UserError for a negative
    number, for a folder that exists already, and where the disk refuses.
    """
    if train < 1 or validation < 0 or seed < 0:
        raise UserError(
            f"demo cards: train={train}, validation={validation}, seed={seed}: "
            "expected at least one training image and no negative number."
        )
    try:
        return _write_aside(folder, (train, validation), seed, progress)
    except OSError as error:
        raise UserError(
            f"{folder}: the demo cards cannot be written ({error}); "
            "free some disk space or choose another folder."
        ) from error


def _write_aside(
    folder: Path, counts: tuple[int, int], seed: int, progress: Progress | None
) -> Path:
    if folder.exists():
        raise FileExistsError("it exists already")
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        aside.chmod(0o755)
        _draw_all(aside, counts, seed, progress)
        try:
            aside.rename(folder)
        except OSError:
            # Another run may have finished the same set in the meantime: then that one serves.
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _draw_all(folder: Path, counts: tuple[int, int], seed: int, progress: Progress | None) -> None:
    for name in _SPLITS:
        (folder / name).mkdir()
    jobs = [(split, i) for split, count in enumerate(counts) for i in range(count)]
    rows: dict[str, list[Row]] = {name: [] for name in _SPLITS}
    # Closed at once on an error, so that no process still draws into a folder being removed.
    with closing(_draw_each(jobs, folder, seed)) as drawn:
        for number, ((split, _), labels) in enumerate(zip(jobs, drawn, strict=True), start=1):
            rows[_SPLITS[split]].extend(labels)
            if progress is not None:
                progress(number, len(jobs))
    for name, labels in rows.items():
        with open(folder / f"{name}_labels.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(HEADER)
            writer.writerows(labels)


def _draw_each(
    jobs: Sequence[tuple[int, int]], folder: Path, seed: int
) -> Generator[list[Row], None, None]:
    """The label rows of each job in order, a large set by one process per core."""
    draw = partial(_draw_one, folder=folder, seed=seed)
    processes = processors()
    done = 0
    if len(jobs) > SMALL_SET and processes > 1:
        # Spawned, because forking a process that runs torch's threads can lock up.
        context = multiprocessing.get_context("spawn")
        try:
            # Ctrl-C is the parent's to handle: its children would each print a traceback.
            ignore = signal.SIGINT, signal.SIG_IGN
            with ProcessPoolExecutor(processes, context, signal.signal, ignore) as pool:
                for rows in pool.map(draw, jobs, chunksize=8):
                    yield rows
                    done += 1
                return
        except BrokenProcessPool:
            # Where no process can be spawned (an interactive session, little memory) go on here.
            pass
    yield from map(draw, jobs[done:])


def _draw_one(job: tuple[int, int], folder: Path, seed: int) -> list[Row]:
    split, index = job
    rng = np.random.default_rng([seed, split, index])
    image, boxes, names = draw_scene(rng)
    name = f"card{index:05d}.jpg"
    quality = int(rng.integers(*_JPEG_QUALITY, endpoint=True))
    image.save(folder / _SPLITS[split] / name, quality=quality)
    return [
        (name, image.width, image.height, rank, *(round(float(v)) for v in box))
        for rank, box in zip(names, boxes, strict=True)
    ]
