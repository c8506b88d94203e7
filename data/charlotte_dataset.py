"""Charlotte: a flat folder of images and LabelImg XML, with ``classes.txt``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data.dataset import Annotation
from data.reading.base import LayoutDataset, Reading
from data.reading.box_parsing import stack_boxes
from data.reading.class_names import found_names, name_counts
from data.reading.folder import Folder, ImageIndex, fold, read_text
from data.reading.voc_xml import read_annotations
from data.remarks import Notes, Severity, listed
from utils.errors import did_you_mean

VALIDATION_FOLDERS = ("val", "valid", "validation", "test")


class CharlotteDataset(LayoutDataset):
    """Images and LabelImg XML side by side, in one folder or in ``train/`` and ``val/``.

    Pixels count from 0, as LabelImg writes them. An image without XML and an XML without objects
    are images without objects. The class list is that of ``classes.txt``, followed by names that
    only the annotations know; without ``classes.txt``, the sorted names of the annotations.
    """

    layout = "Charlotte"
    looked_for = "images with LabelImg .xml files (here or in train/)"

    @classmethod
    def recognises(cls, folder: Folder) -> bool:
        return bool(folder.xml_files) or _train_folder(folder) is not None

    @classmethod
    def read(cls, folder: Folder, notes: Notes) -> Reading:
        train_folder = _train_folder(folder)
        if train_folder is None:
            train = _read_flat(folder, notes)
            return Reading(train, None, _class_names([folder], train, notes))
        if folder.xml_files:
            notes.warn(
                f"{len(folder.xml_files)} XML file(s) beside {train_folder.path.name}/ are not used"
            )
        train = _read_flat(train_folder, notes)
        class_names = _class_names([folder, train_folder], train, notes)
        others = [f for name in VALIDATION_FOLDERS if (f := folder.find_folder(name))]
        if not others:
            return Reading(train, None, class_names)
        if others[1:]:
            notes.warn(
                f"validation is {others[0].path.name}/; not used: "
                + listed(f"{f.path.name}/" for f in others[1:])
            )
        return Reading(train, _read_flat(others[0], notes), class_names)


def _train_folder(folder: Folder) -> Folder | None:
    train = folder.find_folder("train")
    return train if train is not None and train.xml_files else None


def _read_flat(folder: Folder, notes: Notes) -> list[Annotation]:
    """The records of one folder, sorted by image path."""
    images = ImageIndex([folder])
    annotated = read_annotations(folder.xml_files, images, notes, origin=0)
    taken = {a.image_path for a in annotated}
    taken_stems = {fold(path.stem) for path in taken}
    negatives = []
    for path in folder.images:
        if path in taken:
            continue
        if fold(path.stem) in taken_stems:
            # Its XML was given to a.jpg: a.png is not known to be without objects.
            notes.count(
                "images left out, the XML of their name belongs to another image", str(path)
            )
            continue
        notes.count(
            "images without an XML file, taken as images without objects", str(path), Severity.NOTE
        )
        negatives.append(
            Annotation(path, stack_boxes([]), (), np.zeros(0, dtype=bool), source=str(path))
        )
    return sorted(annotated + negatives, key=lambda a: a.image_path.name)


def _class_names(
    folders: Sequence[Folder], annotations: Sequence[Annotation], notes: Notes
) -> list[str]:
    found = found_names(*annotations)
    path = next((p for f in folders if (p := f.find_file("classes.txt"))), None)
    if path is None:
        return found
    lines = (line.strip() for line in read_text(path).splitlines())
    stated = list(dict.fromkeys(line for line in lines if line))
    new = [name for name in found if name not in stated]
    if not new:
        return stated
    if len(new) == len(found):
        notes.warn(
            f"{path} is not used: none of its names ({listed(stated)}) occurs in the annotations"
        )
        return found
    counts = name_counts(annotations)
    told = listed(f"{n!r} in {counts[n]} object(s){did_you_mean(n, stated)}" for n in new)
    notes.warn(f"classes added to those of {path}, because annotations have them: {told}")
    return stated + new
