"""COCO: one JSON a split, and the images in folders beside it.

The format: https://cocodataset.org/#format-data
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data.dataset import Annotation
from data.reading.base import LayoutDataset, Reading
from data.reading.box_parsing import Box, parse_box, parse_size, stack_boxes
from data.reading.coco_files import CocoImages, choose_files, find_files
from data.reading.coco_json import (
    Entry,
    Id,
    category_names,
    corner_texts,
    id_of,
    load_coco,
    number_text,
    text_of,
)
from data.reading.folder import Folder, searched
from data.remarks import Notes, Severity
from utils.errors import UserError


class CocoDataset(LayoutDataset):
    """Boxes from JSON files in ``annotations/``, in the split folders or in the folder itself.

    Pixels count from 0, decimals are kept. An image without annotations is an image without
    objects. The class list is the categories that have objects in training, in the order of their
    ids; ids need not follow one another, and splits may number the same names differently.

    Crowds (``iscrowd``) are not learnt; evaluation gets them, as COCO's rule wants it.
    """

    layout = "COCO"
    looked_for = "annotations/*.json, train/_annotations.coco.json or another COCO .json"

    @classmethod
    def recognises(cls, folder: Folder) -> bool:
        return bool(find_files(folder))

    @classmethod
    def read(cls, folder: Folder, notes: Notes) -> Reading:
        train_json, validation_json = choose_files(folder, notes)
        train = _read_split(folder, train_json, notes)
        validation = _read_split(folder, validation_json, notes) if validation_json else None
        _remark_unused([train, validation or train], notes)
        class_names = _class_names(train)
        return Reading(
            train=train.records(),
            validation=validation.records() if validation else None,
            class_names=class_names,
            crowds=dict(_crowds(validation or train, class_names, notes)),
        )


@dataclass
class _Picture:
    """One image of a JSON and the boxes that its annotations gave, each once and in order."""

    path: Path
    source: str
    size: tuple[int, int] | None
    objects: dict[tuple[str, Box], None] = field(default_factory=dict)
    crowds: dict[tuple[str, Box], None] = field(default_factory=dict)

    def record(self, rows: Mapping[tuple[str, Box], None], difficult: bool = False) -> Annotation:
        return Annotation(
            image_path=self.path,
            boxes=stack_boxes([box for _, box in rows]),
            names=tuple(name for name, _ in rows),
            difficult=np.full(len(rows), difficult),
            size=self.size,
            source=self.source,
        )


@dataclass(frozen=True)
class _Split:
    """One JSON, read. names: category id to name. searched: where its images were looked for."""

    pictures: Sequence[_Picture]
    names: Mapping[Id, str]
    searched: Sequence[Folder]

    def records(self) -> list[Annotation]:
        return [picture.record(picture.objects) for picture in self.pictures]


def _read_split(folder: Folder, path: Path, notes: Notes) -> _Split:
    content = load_coco(path)
    names = category_names(content["categories"], path)
    images = CocoImages(folder, path)
    pictures = _pictures(content["images"], path, images, notes)
    for number, entry in enumerate(content["annotations"], start=1):
        # An annotation's own id is what a user can search for; some tools write none.
        own_id = reprlib.repr(entry["id"]) if "id" in entry else f"number {number}"
        with notes.catching():
            _add_annotation(entry, f"{path}, annotation {own_id}", pictures, names, notes)
    found = [picture for picture in pictures.values() if picture is not None]
    return _Split(found, names, images.searched)


def _pictures(
    rows: Sequence[Entry], path: Path, images: CocoImages, notes: Notes
) -> dict[Id, _Picture | None]:
    """By image id; None for an entry whose image is not there."""
    pictures: dict[Id, _Picture | None] = {}
    owner: dict[Path, Id] = {}
    for number, row in enumerate(rows, start=1):
        with notes.catching():
            key = id_of(row, "id", f"{path}, image number {number}")
            where = f"{path}, image {reprlib.repr(key)}"
            if key in pictures:
                raise UserError(f"{where}: the id is there more than once; ids are unique.")
            pictures[key] = None
            stated = text_of(row, "file_name", where)
            image = images.find(stated)
            if image is None:
                what = f"image(s) not found in {searched(images.searched)}"
                notes.count(what, f"{where}, {stated!r}", Severity.BAD_IMAGE)
                continue
            if image in owner:
                raise UserError(
                    f"{where}: its file_name {stated!r} leads to {image}, as that of image "
                    f"{reprlib.repr(owner[image])} does; expected one entry an image. Merge them "
                    "or restore the folders that tell them apart."
                )
            owner[image] = key
            size = parse_size(number_text(row.get("width")), number_text(row.get("height")))
            pictures[key] = _Picture(image, where, size)
    return pictures


def _add_annotation(
    row: Entry,
    where: str,
    pictures: Mapping[Id, _Picture | None],
    names: Mapping[Id, str],
    notes: Notes,
) -> None:
    image_id, category_id = id_of(row, "image_id", where), id_of(row, "category_id", where)
    if image_id not in pictures:
        raise UserError(
            f"{where}: image_id {reprlib.repr(image_id)} is not among the images; correct it."
        )
    if category_id not in names:
        raise UserError(
            f"{where}: category_id {reprlib.repr(category_id)} is not among the categories; "
            "correct it."
        )
    crowd = row.get("iscrowd") or 0
    if crowd not in (0, 1):
        raise UserError(f"{where}: iscrowd is {reprlib.repr(crowd)}; expected 0 or 1.")
    name, picture = names[category_id], pictures[image_id]
    if picture is None:
        return
    box = parse_box(corner_texts(row, where), f"{where}, {name!r}", notes, size=picture.size)
    if box is None:
        return
    if crowd:
        notes.count("crowd regions, neither learnt nor judged", where, Severity.NOTE)
    rows = picture.crowds if crowd else picture.objects
    if (name, box) in rows:
        notes.count("duplicate annotations, removed", where)
    rows[name, box] = None


def _class_names(train: _Split) -> list[str]:
    learnt = {name for picture in train.pictures for name, _ in picture.objects}
    by_id = sorted(train.names.items(), key=lambda item: (isinstance(item[0], str), item[0]))
    return list(dict.fromkeys(name for _, name in by_id if name in learnt))


def _crowds(
    split: _Split, class_names: Sequence[str], notes: Notes
) -> Iterator[tuple[Path, Annotation]]:
    """The regions where a detection is not judged; those of other classes than ours absorb none."""
    for picture in split.pictures:
        rows = {row: None for row in picture.crowds if row[0] in class_names}
        for _ in range(len(picture.crowds) - len(rows)):
            notes.count(
                "crowd regions of classes that are not learnt, dropped",
                picture.source,
                Severity.NOTE,
            )
        if rows:
            yield picture.path, picture.record(rows, difficult=True)


def _remark_unused(splits: Sequence[_Split], notes: Notes) -> None:
    used = {picture.path for split in splits for picture in split.pictures}
    folders = {f.path: f for split in splits for f in split.searched}
    for path in sorted({path for f in folders.values() for path in f.images} - used):
        notes.count("images that no COCO file names, not used", str(path))
