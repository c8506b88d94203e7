"""Predict: a checkpoint's detector on a person's own pictures, drawn and as JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any, NamedTuple

from data.folder import fold
from inference import Found, Prediction, find_pictures, predict
from model.checkpoint import Checkpoint, load_checkpoint
from model.efficient_retinanet import describe_parameters
from utils.config import Config
from utils.console import harmless, is_terminal, progress_bar, say
from utils.errors import UserError
from utils.failures import readable_failures
from utils.gpu_check import make_guard
from utils.hardware import Machine
from utils.quiet import quieten_libraries
from utils.run_folder import create_run_folder, make_folder
from utils.visualisation import draw_boxes

DRAWN = "images"
COCO_RESULTS = "predictions.json"
OBJECTS = "predictions.csv"
PICTURES = "images.csv"
MODEL_THRESHOLD = 0.05
JPEG_LONGEST = 65_500  # pixels of a side
LINE_EVERY = 500  # pictures, where there is no terminal for a bar


def launch(config: Config) -> int:
    """Detect objects in ``config.predict``, an image or a folder, with ``config.load``.

    Writes annotated pictures, ``predictions.json`` (COCO results), ``predictions.csv`` and
    ``images.csv`` (one row a picture) into ``config.output``, by default a new folder beside the
    checkpoint. Returns the exit status, 1 if a picture could not be read. Raises UserError for a
    file that is no checkpoint, a path without pictures, flags that contradict the checkpoint and an
    output folder that holds results or lies in the folder of the pictures.
    """
    quieten_libraries()
    machine = Machine.choose(config.device, config.precision)
    checkpoint = load_checkpoint(Path(config.load or ""))
    checkpoint.refuse_contradictions(
        model_name=config.model, image_size=config.image_size, anchor_scale=config.anchor_scale
    )
    source = Path(config.predict or "").expanduser()
    found = find_pictures(source)
    threshold = checkpoint.threshold(config.score_threshold)
    model = checkpoint.build_model(min(MODEL_THRESHOLD, threshold))
    folder = _output_folder(config.output, checkpoint.path.parent, source)
    name = checkpoint.description.model_name
    say("model", f"{name}: {describe_parameters(model)}, epoch {checkpoint.epoch}")
    say("device", str(machine))
    say("threshold", f"{threshold:g}, {_origin(config, checkpoint)}")
    _say_found(found)

    predictions = predict(
        model,
        found.paths,
        checkpoint.description.class_names,
        score_threshold=threshold,
        batch_size=config.batch_size,
        workers=config.workers,
        machine=machine,
        keep_images=True,
    )
    results = Results(folder, found.names)
    start = time.monotonic()
    try:
        with readable_failures(), _resting(config, machine) as rest:
            _write_all(predictions, results, found, rest)
    except (KeyboardInterrupt, UserError):
        kept = "what was found until then is in" if results.whole() else "parts may be left in"
        say("stopped", f"after {results.pictures} of {len(found.paths)} pictures; {kept} {folder}")
        raise
    failed = results.failed + len(found.unlisted)
    speed = results.pictures / (time.monotonic() - start)
    say(
        "done",
        f"pictures {results.pictures}, objects {results.objects}, failed {failed}; {speed:.1f} "
        "images/s with reading and drawing",
    )
    say("saved", f"{folder}: {DRAWN}/, {COCO_RESULTS}, {OBJECTS}, {PICTURES}")
    return 1 if failed else 0


def _write_all(
    predictions: Iterator[Prediction], results: Results, found: Found, rest: Callable[[], None]
) -> None:
    total = len(found.paths)
    with progress_bar("detecting") as progress, results:
        for prediction in predictions:
            results.add(prediction)
            if prediction.error:
                say("failed", f"{prediction.source}: {prediction.error}")
            progress(results.pictures, total)
            if results.pictures % LINE_EVERY == 0 and not is_terminal():
                say("progress", f"{results.pictures} of {total} pictures")
            rest()


def _say_found(found: Found) -> None:
    others = f"; {found.left_alone} other files left alone" if found.left_alone else ""
    say("pictures", f"{len(found.paths)} in {found.root}{others}")
    for folder, reason in found.unlisted:
        say("failed", f"{folder}: {reason}")


def _origin(config: Config, checkpoint: Checkpoint) -> str:
    if config.score_threshold is not None:
        return "as --score-threshold says"
    if checkpoint.score_threshold is not None:
        return "recommended by the checkpoint's validation"
    return "the default: the checkpoint recommends none"


def _output_folder(asked: str | None, beside: Path, source: Path) -> Path:
    """An empty place for the results, outside the folder of the pictures."""
    if asked is None:
        _refuse_inside(beside, source, "--output is not given and the checkpoint lies in it")
        resolved = source.resolve()
        name = resolved.stem if resolved.is_file() else resolved.name
        return create_run_folder(beside, f"predict-{name}" if name else "predict")
    folder = Path(asked)
    _refuse_inside(folder, source, f"--output {folder} lies in it")
    taken = [name for name in (DRAWN, COCO_RESULTS, OBJECTS, PICTURES) if (folder / name).exists()]
    if taken:
        raise UserError(
            f"--output {folder}: holds {', '.join(taken)} already, which would be overwritten; "
            "give another folder."
        )
    return make_folder(folder)


def _refuse_inside(folder: Path, source: Path, reason: str) -> None:
    folder = folder.resolve()
    for parent in (folder, *folder.parents):
        if source.is_dir() and parent.exists() and parent.samefile(source):
            raise UserError(
                f"--predict {source}: the results would be written into the folder of the pictures "
                f"({reason}); give --output a folder outside of it."
            )


@contextmanager
def _resting(config: Config, machine: Machine) -> Iterator[Callable[[], None]]:
    """Yields what to call after every picture; after each batch the temperature guard rests."""
    guards = make_guard(
        config.gpu, config.delay_time, config.high_temp, config.low_temp, config.max_pause, say
    )
    # All that the guard asks a Trainer; there is none here.
    alone: Any = SimpleNamespace(
        world_size=1,
        is_global_zero=True,
        received_sigterm=False,
        strategy=SimpleNamespace(root_device=machine.device),
    )
    module: Any = None
    pictures = count(1)

    def rest() -> None:
        if next(pictures) % config.batch_size == 0:
            for guard in guards:
                guard.on_validation_batch_end(alone, module, None, None, 0)

    with ExitStack() as stack:
        for guard in guards:
            guard.setup(alone, module, "predict")
            stack.callback(guard.teardown, alone, module, "predict")
        yield rest


class Results:
    """The files of one prediction; they grow aside and appear when the ``with`` block ends.

    They appear also when it is broken off, with what was found until then.
    names: the pictures' paths in their folder, which are also their names in the results.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.pictures = self.objects = self.failed = 0
        self._names = names
        self._folder = folder
        self._drawn = drawn_names(names)
        self._coco = _GrowingFile(folder / COCO_RESULTS, "[", "\n]\n")
        self._objects = _GrowingFile(
            folder / OBJECTS, csv_line("filename", "class", "score", "xmin", "ymin", "xmax", "ymax")
        )
        header = ("filename", "image_id", "width", "height", "objects", "annotated", "error")
        self._pictures = _GrowingFile(folder / PICTURES, csv_line(*header))

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *error: object) -> None:
        with ExitStack() as stack:
            for file in (self._coco, self._objects, self._pictures):
                stack.callback(file.close)

    def whole(self) -> bool:
        """Whether the files have appeared."""
        return all((self._folder / name).exists() for name in (COCO_RESULTS, OBJECTS, PICTURES))

    def add(self, prediction: Prediction) -> None:
        """Draw and write down one picture. Raises OSError where the disk is full."""
        name, image_id = self._names[prediction.index], prediction.index + 1
        drawn = ""
        if prediction.image is not None:
            drawn = f"{DRAWN}/{self._drawn[prediction.index]}"
            _save_drawn(prediction, self._folder / drawn)
        rows = list(_objects(prediction))
        self._coco.add(
            "".join(
                ("," if self.objects + number else "")
                + "\n"
                + json.dumps(_coco_record(row, name, image_id), ensure_ascii=False)
                for number, row in enumerate(rows)
            )
        )
        self._objects.add("".join(csv_line(name, row.name, row.score, *row.box) for row in rows))
        width, height = prediction.size if not prediction.error else ("", "")
        self._pictures.add(
            csv_line(name, image_id, width, height, len(rows), drawn, prediction.error or "")
        )
        self.pictures += 1
        self.objects += len(rows)
        self.failed += prediction.error is not None


class _Object(NamedTuple):
    """A detection as it is written down. box: xyxy, pixels, to a hundredth."""

    label: int
    name: str
    score: float
    box: tuple[float, ...]


def _objects(prediction: Prediction) -> Iterator[_Object]:
    for label, name, score, box in zip(
        prediction.labels.tolist(),
        prediction.names,
        prediction.scores.tolist(),
        prediction.boxes.tolist(),
        strict=True,
    ):
        yield _Object(label, name, round(score, 6), tuple(round(c, 2) for c in box))


def _coco_record(row: _Object, name: str, image_id: int) -> dict[str, Any]:
    """COCO's results form (cocodataset.org/#format-results), and the names behind the numbers."""
    left, top, right, bottom = row.box
    return {
        "image_id": image_id,
        "category_id": row.label,
        "bbox": [left, top, round(right - left, 2), round(bottom - top, 2)],
        "score": row.score,
        "file_name": name,
        "category_name": row.name,
    }


def csv_line(*values: object) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


class _GrowingFile:
    """A file that grows piece by piece under another name and gets its own when it is closed.

    A piece that a full disk cut short is taken away then. Texts may hold file names that are no
    UTF-8; those bytes become JSON's escapes.
    """

    def __init__(self, path: Path, start: str, end: str = "") -> None:
        self._path, self._end = path, end
        self._aside = path.with_name(f".{path.name}")
        self._file = io.FileIO(self._aside, "wb")
        self.add(start)

    def add(self, text: str) -> None:
        rest = text.encode("utf-8", "backslashreplace")
        while rest:
            rest = rest[self._file.write(rest) :]
        self._whole = self._file.tell()

    def close(self) -> None:
        with self._file:
            self._file.truncate(self._whole)
            self._file.seek(self._whole)
            self.add(self._end)
        os.replace(self._aside, self._path)


def drawn_names(names: Sequence[str]) -> list[str]:
    """``a/b.png`` to ``a/b.jpg``; a name that another has already becomes ``a/b-2.jpg``.

    Names that differ only by case, or by the spelling of an accent, are the same on some disks.
    """
    taken = {fold(str(parent)) for name in names for parent in PurePosixPath(name).parents}
    drawn = []
    for name in names:
        stem = PurePosixPath(name).with_suffix("")
        number = 1
        while fold(new := f"{stem}.jpg" if number == 1 else f"{stem}-{number}.jpg") in taken:
            number += 1
        taken.add(fold(new))
        drawn.append(new)
    return drawn


def _save_drawn(prediction: Prediction, path: Path) -> None:
    """The picture with its boxes as JPEG, whole or not at all."""
    assert prediction.image is not None
    captions = [
        f"{harmless(name)} {score:.2f}"
        for name, score in zip(prediction.names, prediction.scores.tolist(), strict=True)
    ]
    # The best come last, so that theirs are the captions that are not covered.
    boxes, labels = prediction.boxes.flip(0).tolist(), prediction.labels.flip(0).tolist()
    drawn = draw_boxes(prediction.image, boxes, labels, captions[::-1])
    drawn.thumbnail((JPEG_LONGEST, JPEG_LONGEST))  # the format allows no more
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}")
    try:
        drawn.save(aside, "JPEG", quality=90)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
