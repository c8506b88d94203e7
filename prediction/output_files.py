"""What a prediction writes: annotated pictures, COCO results and tables, piece by piece."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from data.reading.folder import fold
from prediction.inference import Prediction
from utils.console import harmless
from utils.visualisation import draw_boxes

DRAWN = "images"
COCO_RESULTS = "predictions.json"
OBJECTS = "predictions.csv"
PICTURES = "images.csv"
JPEG_LONGEST = 65_500  # pixels of a side
NAME_LONGEST = 240  # bytes of a file's name; disks take 255
# A sign that begins a formula, and what calls a function, a program or another file in it.
FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20].*[(|!#]", re.DOTALL)


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
    """One row. A text that a spreadsheet would take for a formula has an apostrophe before it.

    Only one that could call or fetch something: the classes ``+`` and ``-`` stay what they are.
    ``predictions.json`` has every name as it is.
    """
    line = io.StringIO()
    cells = [f"'{v}" if isinstance(v, str) and FORMULA.match(v) else v for v in values]
    # Python's own end of line lets the writer quote a name with half of it.
    csv.writer(line).writerow(cells)
    return line.getvalue().removesuffix("\r\n") + "\n"


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
    # The cut may go through a character.
    return stem.with_name(raw[:NAME_LONGEST].decode("utf-8", "ignore") or "picture")


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
