"""Charlotte: a flat folder of images and LabelImg XML, with ``classes.txt``."""

from __future__ import annotations

from collections.abc import Sequence

from data.dataset import Annotation
from data.reading.base import LayoutDataset, Reading
from data.reading.class_names import name_counts, occurring_names
from data.reading.folder import Folder, read_text
from data.reading.image_lookup import ImageIndex
from data.reading.image_objects import ImageObjects
from data.reading.voc_xml import read_annotations
from data.remarks import Remarks, Severity
from utils.errors import did_you_mean
from utils.text import fold, listed

VALIDATION_FOLDERS = ("val", "valid", "validation", "test")


class CharlotteDataset(LayoutDataset):
    """Images and LabelImg XML side by side, in one folder or in ``train/`` and ``val/``.

    Pixels count from 0, as LabelImg writes them. An image without XML and an XML without objects
    are images without objects. The class list is that of ``classes.txt``, followed by names that
    only the annotations have; without ``classes.txt``, the sorted names of the annotations.
    """

    layout = "Charlotte"
    looked_for = "images with LabelImg .xml files (here or in train/)"

    @classmethod
    def recognises(cls, folder: Folder) -> bool:
        return bool(folder.xml_files) or _train_folder(folder) is not None

    @classmethod
    def read(cls, folder: Folder, remarks: Remarks) -> Reading:
        train_folder = _train_folder(folder)
        if train_folder is None:
            train = _read_flat(folder, remarks)
            return Reading(train, None, _class_names([folder], train, remarks))
        if folder.xml_files:
            remarks.warn(
                f"{len(folder.xml_files)} XML file(s) beside {train_folder.path.name}/ are not used"
            )
        train = _read_flat(train_folder, remarks)
        class_names = _class_names([folder, train_folder], train, remarks)
        others = [f for name in VALIDATION_FOLDERS if (f := folder.find_folder(name))]
        if not others:
            return Reading(train, None, class_names)
        if others[1:]:
            remarks.warn(
                f"validation is {others[0].path.name}/; not used: "
                + listed(f"{f.path.name}/" for f in others[1:])
            )
        return Reading(train, _read_flat(others[0], remarks), class_names)


def _train_folder(folder: Folder) -> Folder | None:
    train = folder.find_folder("train")
    return train if train is not None and train.xml_files else None


def _read_flat(folder: Folder, remarks: Remarks) -> list[Annotation]:
    """The records of one folder, sorted by image path."""
    images = ImageIndex([folder])
    annotated = read_annotations(folder.xml_files, images, remarks, origin=0)
    taken = {a.image_path for a in annotated}
    taken_stems = {fold(path.stem) for path in taken}
    negatives = []
    for path in folder.images:
        if path in taken:
            continue
        if fold(path.stem) in taken_stems:
            # Its XML went to a.jpg: nothing says that a.png is without objects.
            remarks.count(
                "images left out, the XML of their name belongs to another image", str(path)
            )
            continue
        remarks.count(
            "images without an XML file, taken as images without objects", str(path), Severity.NOTE
        )
        negatives.append(ImageObjects(str(path)).annotation(path))
    return sorted(annotated + negatives, key=lambda a: a.image_path.name)


def _class_names(
    folders: Sequence[Folder], annotations: Sequence[Annotation], remarks: Remarks
) -> list[str]:
    occurring = occurring_names(*annotations)
    path = next((p for f in folders if (p := f.find_file("classes.txt"))), None)
    if path is None:
        return occurring
    lines = (line.strip() for line in read_text(path).splitlines())
    stated = list(dict.fromkeys(line for line in lines if line))
    new = [name for name in occurring if name not in stated]
    if not new:
        return stated
    if len(new) == len(occurring):
        remarks.warn(
            f"{path} is not used: none of its names ({listed(stated)}) occurs in the annotations"
        )
        return occurring
    counts = name_counts(annotations)
    names = listed(f"{n!r} in {counts[n]} object(s){did_you_mean(n, stated)}" for n in new)
    remarks.warn(f"classes added to those of {path}, because annotations have them: {names}")
    return stated + new
