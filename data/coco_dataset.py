"""COCO: one JSON a split, and the images in folders beside it.

The format: https://cocodataset.org/#format-data
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data.dataset import Annotation
from data.reading.base import LayoutDataset, Reading
from data.reading.box_parsing import make_box
from data.reading.coco_files import choose_files, find_files, image_index
from data.reading.coco_json import (
    Entry,
    Id,
    category_names,
    corners_of,
    id_of,
    load_coco,
    size_of,
    text_of,
)
from data.reading.folder import Folder
from data.reading.image_lookup import PathIndex, remark_unused, searched
from data.reading.image_objects import ImageObjects
from data.remarks import Remarks, Severity
from utils.errors import UserError


class CocoDataset(LayoutDataset):
    """Boxes from JSON files in ``annotations/``, in the split folders or in the folder itself.

    Pixels count from 0, decimals are kept. An image without annotations is an image without
    objects. The class list is the categories that have objects in training, in the order of their
    ids; ids need not follow one another, and splits may number the same names differently.

    Crowds (``iscrowd``) are not trained on; evaluation gets them, as COCO's rule requires.
    """

    layout = "COCO"
    looked_for = "annotations/*.json, train/_annotations.coco.json or another COCO .json"

    @classmethod
    def recognises(cls, folder: Folder) -> bool:
        return bool(find_files(folder))

    @classmethod
    def read(cls, folder: Folder, remarks: Remarks) -> Reading:
        train_json, validation_json = choose_files(folder, remarks)
        train = _read_split(folder, train_json, remarks)
        validation = _read_split(folder, validation_json, remarks) if validation_json else None
        splits = [train, validation or train]
        folders = [f for split in splits for f in split.folders]
        named = {image.path for split in splits for image in split.images}
        remark_unused("images that no COCO file names, not used", folders, named, remarks)
        class_names = _class_names(train)
        return Reading(
            train=train.annotations(),
            validation=validation.annotations() if validation else None,
            class_names=class_names,
            crowds=dict(_crowds(validation or train, class_names, remarks)),
        )


@dataclass(frozen=True)
class _Image:
    """One image of a JSON and what its annotations gave; the rows of crowds are difficult."""

    path: Path
    objects: ImageObjects
    crowds: ImageObjects


@dataclass(frozen=True)
class _Split:
    """One JSON, read. names: category id to name. folders: where its images were looked for."""

    images: Sequence[_Image]
    names: Mapping[Id, str]
    folders: Sequence[Folder]

    def annotations(self) -> list[Annotation]:
        return [image.objects.annotation(image.path) for image in self.images]


def _read_split(folder: Folder, path: Path, remarks: Remarks) -> _Split:
    content = load_coco(path)
    names = category_names(content["categories"], path)
    lookup = image_index(folder, path)
    images = _images(content["images"], path, lookup, remarks)
    for number, entry in enumerate(content["annotations"], start=1):
        # An annotation's own id is what a user can search for; some tools write none.
        label = reprlib.repr(entry["id"]) if "id" in entry else f"number {number}"
        with remarks.catch_errors():
            _add_annotation(entry, f"{path}, annotation {label}", images, names, remarks)
    return _Split([image for image in images.values() if image], names, lookup.folders)


def _images(
    rows: Sequence[Entry], path: Path, lookup: PathIndex, remarks: Remarks
) -> dict[Id, _Image | None]:
    """By image id; None for an entry whose image is missing."""
    images: dict[Id, _Image | None] = {}
    owner: dict[Path, Id] = {}
    for number, row in enumerate(rows, start=1):
        with remarks.catch_errors():
            key = id_of(row, "id", f"{path}, image number {number}")
            where = f"{path}, image {reprlib.repr(key)}"
            if key in images:
                raise UserError(f"{where}: the id is there more than once; ids are unique.")
            images[key] = None
            stated = text_of(row, "file_name", where)
            image = lookup.find(stated)
            if image is None:
                what = f"image(s) not found in {searched(lookup.folders)}"
                remarks.count(what, f"{where}, {stated!r}", Severity.BAD_IMAGE)
                continue
            if image in owner:
                raise UserError(
                    f"{where}: its file_name {stated!r} leads to {image}, as that of image "
                    f"{reprlib.repr(owner[image])} does; expected one entry per image. Merge them "
                    "or restore the folders that tell them apart."
                )
            owner[image] = key
            size = size_of(row)
            images[key] = _Image(image, ImageObjects(where, size), ImageObjects(where, size))
    return images


def _add_annotation(
    row: Entry,
    where: str,
    images: Mapping[Id, _Image | None],
    names: Mapping[Id, str],
    remarks: Remarks,
) -> None:
    image_id, category_id = id_of(row, "image_id", where), id_of(row, "category_id", where)
    if image_id not in images:
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
    name, image = names[category_id], images[image_id]
    if image is None:
        return
    corners = corners_of(row, where)
    box = make_box(corners, f"{where}, {name!r}", remarks, size=image.objects.size)
    if box is None:
        return
    if crowd:
        remarks.count("crowd regions: not trained on, ignored in evaluation", where, Severity.NOTE)
    objects = image.crowds if crowd else image.objects
    if not objects.add(name, box, difficult=bool(crowd)):
        remarks.count("duplicate annotations, removed", where)


def _class_names(train: _Split) -> list[str]:
    learned = {name for image in train.images for name, _ in image.objects.rows}
    by_id = sorted(train.names.items(), key=lambda item: (isinstance(item[0], str), item[0]))
    return list(dict.fromkeys(name for _, name in by_id if name in learned))


def _crowds(
    split: _Split, class_names: Sequence[str], remarks: Remarks
) -> Iterator[tuple[Path, Annotation]]:
    """The regions in which detections are ignored, of the classes that are learned."""
    for image in split.images:
        rows = {row: flag for row, flag in image.crowds.rows.items() if row[0] in class_names}
        for _ in range(len(image.crowds.rows) - len(rows)):
            what = "crowd regions of classes that are not learned, dropped"
            remarks.count(what, image.crowds.source, Severity.NOTE)
        if rows:
            yield image.path, replace(image.crowds, rows=rows).annotation(image.path)
