"""What a prediction writes: annotated images, COCO results and tables, piece by piece."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

from prediction.inference import Prediction
from utils.console import harmless
from utils.text import fold
from utils.visualisation import draw_boxes

DRAWN = "images"
COCO_RESULTS = "predictions.json"
OBJECTS = "predictions.csv"
IMAGES = "images.csv"
JPEG_LONGEST = 65_500  # pixels of a side
NAME_LONGEST = 240  # bytes of a file's name; disks take 255
# The sign that begins a formula, and what calls a function, a program or another file in it.
FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20].*[(|!#]", re.DOTALL)


class OutputFiles:
    """The files of one prediction; they grow under other names until the ``with`` block ends.

    They appear also when it is broken off, with the objects detected until then.
    names: the images' paths in their folder, which are also their names in the results.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.images = self.objects = self.failed = 0
        self._names = names
        self._folder = folder
        self._drawn = drawn_names(names)
        self._coco = _GrowingFile(folder / COCO_RESULTS, "[", "\n]\n")
        self._objects = _GrowingFile(
            folder / OBJECTS, csv_line("filename", "class", "score", "xmin", "ymin", "xmax", "ymax")
        )
        header = ("filename", "image_id", "width", "height", "objects", "annotated", "error")
        self._images = _GrowingFile(folder / IMAGES, csv_line(*header))

    def __enter__(self) -> OutputFiles:
        return self

    def __exit__(self, *error: object) -> None:
        with ExitStack() as stack:
            for file in (self._coco, self._objects, self._images):
                stack.callback(file.close)

    def whole(self) -> bool:
        """Whether the files have appeared."""
        return all((self._folder / name).exists() for name in (COCO_RESULTS, OBJECTS, IMAGES))

    def add(self, prediction: Prediction) -> None:
        """Draw and write down one image. Raises OSError where the disk is full."""
        name, image_id = self._names[prediction.index], prediction.index + 1
        drawn = ""
        if prediction.image is not None:
            drawn = f"{DRAWN}/{self._drawn[prediction.index]}"
            _save_drawn(prediction, self._folder / drawn)
        detections = prediction.detections
        columns = (detections.labels, detections.scores, detections.boxes)
        objects = zip(prediction.names, *(column.tolist() for column in columns), strict=True)
        records, rows = "", ""
        for class_name, label, score, box in objects:
            score, box = round(score, 6), [round(coordinate, 2) for coordinate in box]
            left, top, right, bottom = box
            # COCO's results form (cocodataset.org/#format-results), and the names of the numbers.
            record = {
                "image_id": image_id,
                "category_id": label,
                "bbox": [left, top, round(right - left, 2), round(bottom - top, 2)],
                "score": score,
                "file_name": name,
                "category_name": class_name,
            }
            separator = "," if self.objects or records else ""
            records += f"{separator}\n{json.dumps(record, ensure_ascii=False)}"
            rows += csv_line(name, class_name, score, *box)
        self._coco.add(records)
        self._objects.add(rows)
        width, height = prediction.size if not prediction.error else ("", "")
        row = (name, image_id, width, height, len(detections), drawn, prediction.error or "")
        self._images.add(csv_line(*row))
        self.images += 1
        self.objects += len(detections)
        self.failed += prediction.error is not None


def csv_line(*values: object) -> str:
    """One row. A text that a spreadsheet would evaluate as a formula gets an apostrophe in front.

    Only a formula that could call or fetch something: the classes ``+`` and ``-`` stay as they
    are. ``predictions.json`` has every name as it is.
    """
    line = io.StringIO()
    cells = [f"'{v}" if isinstance(v, str) and FORMULA.match(v) else v for v in values]
    # With its default line ending, \r\n, the writer also quotes a name that holds only a \r.
    csv.writer(line).writerow(cells)
    return line.getvalue().removesuffix("\r\n") + "\n"


class _GrowingFile:
    """A file that is written piece by piece under another name and renamed when it is closed.

    A piece that a full disk cut short is removed then. File names need not be UTF-8; other bytes
    are written as JSON's escapes.
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
    """``a/b.png`` to ``a/b.jpg``; a name that is taken becomes ``a/b-2.jpg``.

    Names that differ only by case, or by the spelling of an accent, are the same on some disks.
    """
    taken = {fold(str(parent)) for name in names for parent in PurePosixPath(name).parents}
    drawn = []
    for name in names:
        stem = _shortened(PurePosixPath(name).with_suffix(""))
        number = 1
        while fold(new := f"{stem}.jpg" if number == 1 else f"{stem}-{number}.jpg") in taken:
            number += 1
        taken.add(fold(new))
        drawn.append(new)
    return drawn


def _shortened(stem: PurePosixPath) -> PurePosixPath:
    """Leaves room for a number and an extension."""
    raw = os.fsencode(stem.name)
    if len(raw) <= NAME_LONGEST:
        return stem
    # The cut may split a character.
    return stem.with_name(raw[:NAME_LONGEST].decode("utf-8", "ignore") or "picture")


def _save_drawn(prediction: Prediction, path: Path) -> None:
    """The image with its boxes as JPEG, whole or not at all."""
    assert prediction.image is not None
    detections = prediction.detections
    captions = [
        f"{harmless(name)} {score:.2f}"
        for name, score in zip(prediction.names, detections.scores.tolist(), strict=True)
    ]
    # The highest-scoring come last, so that theirs are the captions that are not covered.
    boxes, labels = detections.boxes[::-1], detections.labels[::-1]
    drawn = draw_boxes(prediction.image, boxes, labels, captions[::-1])
    drawn.thumbnail((JPEG_LONGEST, JPEG_LONGEST))  # the format allows no more
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}")
    try:
        drawn.save(aside, "JPEG", quality=90)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
