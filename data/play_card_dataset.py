"""Playing cards: ``train_labels.csv`` and ``test_labels.csv``, one row per box."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from data.dataset import Annotation
from data.reading.base import LayoutDataset, Reading
from data.reading.box_parsing import COORDINATES, parse_box, parse_size
from data.reading.class_names import occurring_names
from data.reading.folder import Folder, read_text
from data.reading.image_lookup import PathIndex, remark_unused, searched
from data.reading.image_objects import ImageObjects
from data.remarks import Remarks, Severity
from utils.errors import UserError
from utils.text import listed

REQUIRED = ("filename", "class", *COORDINATES)
SIZES = ("width", "height")
# What tools write without a header: this layout's own order, keras-retinanet's, the required one.
ORDERS = (
    ("filename", *SIZES, "class", *COORDINATES),
    ("filename", *COORDINATES, "class"),
    REQUIRED,
)
TRAIN_CSV, TEST_CSV = "train_labels.csv", "test_labels.csv"
CSV_FOLDERS = ("play_cards", "images", "data")
IMAGE_FOLDERS = ("play_cards", "images")

Row = dict[str, str]


class PlayCardDataset(LayoutDataset):
    """Boxes from two CSV files; the header names the columns, in any order.

    Pixels count from 0. A row with a file name, but neither class nor coordinates, is an image
    without objects. The class list is the sorted names of the training CSV.
    """

    layout = "playing cards"
    looked_for = f"{TRAIN_CSV} (here or in {', '.join(f'{f}/' for f in CSV_FOLDERS)})"

    @classmethod
    def recognises(cls, folder: Folder) -> bool:
        return _find_csv(folder, TRAIN_CSV) is not None or _find_csv(folder, TEST_CSV) is not None

    @classmethod
    def read(cls, folder: Folder, remarks: Remarks) -> Reading:
        train_csv = _find_csv(folder, TRAIN_CSV)
        if train_csv is None:
            raise UserError(
                f"{folder.path}: {TEST_CSV} is there, but no {TRAIN_CSV}; expected "
                "both, or the training CSV alone."
            )
        test_csv = _find_csv(folder, TEST_CSV)
        train = _read_split(folder, train_csv, "train", remarks)
        test = _read_split(folder, test_csv, "test", remarks) if test_csv else None
        folders = [*_image_folders(folder, "train"), *_image_folders(folder, "test")]
        named = {a.image_path for a in (*train, *(test or []))}
        remark_unused("images that no CSV row names, not used", folders, named, remarks)
        return Reading(train, test, occurring_names(*train))


def _find_csv(folder: Folder, name: str) -> Path | None:
    candidates = (folder, *(folder.find_folder(sub) for sub in CSV_FOLDERS))
    return next((p for f in candidates if f is not None and (p := f.find_file(name))), None)


def _image_folders(folder: Folder, split: str) -> list[Folder]:
    """Where the images of a split may lie; the split's own folders come first."""
    bases = [folder, *(f for sub in CSV_FOLDERS if (f := folder.find_folder(sub)))]
    bases += [f for base in bases[1:] for sub in IMAGE_FOLDERS if (f := base.find_folder(sub))]
    return [f for base in bases if (f := base.find_folder(split))] + bases


def _read_split(folder: Folder, csv_path: Path, split: str, remarks: Remarks) -> list[Annotation]:
    """The records of one CSV, in the order in which it first names the images."""
    folders = _image_folders(folder, split)
    # A path starts where the CSV lies or in the data set's folder; a bare name has a split's.
    bases = sorted(folders, key=lambda f: (f.path != csv_path.parent, f is not folder))
    images = PathIndex(folders, bases)
    objects: dict[Path, ImageObjects] = {}
    first_name: dict[Path, str] = {}
    missing: dict[str, str] = {}
    for line, row in _rows(csv_path, remarks):
        where, stated = f"{csv_path}, line {line}", row["filename"]
        if not stated:
            remarks.error(f"{where}: the filename is empty; expected the name of an image.")
            continue
        image = images.find(stated)
        if image is None:
            missing.setdefault(stated, where)
            continue
        if stated != first_name.setdefault(image, stated):
            remarks.count("rows that name their image in another way than its first row", where)
        of_image = objects.setdefault(image, ImageObjects(f"{csv_path}, from line {line}"))
        with remarks.catch_errors():
            _add_row(of_image, row, where, remarks)
    what = f"image(s) not found in {searched(folders)}"
    for name, where in missing.items():
        remarks.count(what, f"{where}, {name!r}", Severity.BAD_IMAGE)
    return [of_image.annotation(image) for image, of_image in objects.items()]


def _add_row(objects: ImageObjects, row: Row, where: str, remarks: Remarks) -> None:
    size = _row_size(row, where)
    if size and objects.size and size != objects.size:
        remarks.count("rows that state another image size than the first row of their image", where)
    objects.size = objects.size or size
    name = row["class"]
    if not name and not any(row[tag] for tag in COORDINATES):
        return
    if not name:
        raise UserError(
            f"{where}: the class is empty; expected a name, or a row without "
            "coordinates for an image without objects."
        )
    box = parse_box(row, f"{where}, {name!r}", remarks, size=objects.size)
    if box is not None and not objects.add(name, box):
        remarks.count("duplicate rows, removed", where)


def _row_size(row: Row, where: str) -> tuple[int, int] | None:
    for column in SIZES:
        text = row.get(column, "")
        if text and not _is_number(text):
            raise UserError(
                f"{where}: {column} is {text!r}; expected a number of pixels, or nothing."
            )
    return parse_size(row.get("width"), row.get("height"))


def _rows(path: Path, remarks: Remarks) -> Iterator[tuple[int, Row]]:
    """Line number and cells by column, stripped; blank lines are passed over."""
    lines = _cells(path)
    first: list[tuple[int, list[str]]] = []
    for line in lines:
        first.append(line)
        if not _is_negative(line[1]):  # such a row says nothing about the columns
            break
    if not first:
        raise UserError(f"{path}: the file is empty; expected the header {','.join(REQUIRED)}.")
    header = _order_of(first[-1][1])
    if header:
        remarks.warn(f"{path}: no header; the columns are taken as {','.join(header)}")
    else:
        number, cells = first.pop(0)
        header = _header(cells, f"{path}, line {number}")
    for number, cells in chain(first, lines):
        if len(cells) > len(header) and any(cells[len(header) :]):
            remarks.error(
                f"{path}, line {number}: {len(cells)} cells, but there are {len(header)} columns; "
                "quote values with commas."
            )
        else:
            padded = cells + [""] * (len(header) - len(cells))
            yield number, dict(zip(header, padded, strict=False))


def _cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and stripped cells of each row that is not blank."""
    text = read_text(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    # In many countries a spreadsheet saves a "CSV" with semicolons.
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise UserError(
            f"{path}, line {reader.line_num}: not readable as CSV ({error}); correct the quotes."
        ) from error


def _order_of(cells: Sequence[str]) -> list[str]:
    """The columns of a file without header, where a row of it fits one of the known orders.

    The row of an image without objects fits every order of its length.
    """
    for order in ORDERS:
        row = dict(zip(order, cells, strict=False))
        numbers = [row[name] for name in (*COORDINATES, *SIZES) if name in row]
        is_object = all(map(_is_number, numbers)) and not _is_number(row.get("class", "0"))
        if len(cells) == len(order) and (is_object or _is_negative(cells)):
            return list(order)
    return []


def _is_negative(cells: Sequence[str]) -> bool:
    """Whether it may be the row of an image without objects, in a file without header."""
    lengths = {len(order) for order in ORDERS}
    size = 1 + len(SIZES) if len(cells) == len(ORDERS[0]) else 1
    numbers = [cell for cell in cells[1:size] if cell]
    return len(cells) in lengths and all(map(_is_number, numbers)) and not any(cells[size:])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _header(cells: list[str], where: str) -> list[str]:
    header = [cell.lower() for cell in cells]
    absent = [name for name in REQUIRED if name not in header]
    if absent:
        raise UserError(
            f"{where}: no column {listed(absent)} in the header {','.join(cells)!r}; "
            f"expected {','.join(REQUIRED)}, and optionally width and height."
        )
    twice = sorted({name for name in REQUIRED if header.count(name) > 1})
    if twice:
        raise UserError(f"{where}: column {listed(twice)} is there more than once; keep one.")
    return header
