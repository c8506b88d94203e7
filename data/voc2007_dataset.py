"""PASCAL VOC as the devkit lays it out, 2007 to 2012, and folders of the same shape.

The challenge and its files: http://host.robots.ox.ac.uk/pascal/VOC/
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.dataset import Annotation
from data.reading.base import LayoutDataset, Reading
from data.reading.class_names import occurring_names
from data.reading.folder import Folder, read_text
from data.reading.image_lookup import ImageIndex, basename, remark_unused, strip_image_suffix
from data.reading.voc_xml import read_annotations
from data.remarks import Remarks, Severity
from utils.errors import did_you_mean
from utils.text import listed

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip

_YEAR = re.compile(r"voc20(0[7-9]|1[0-2])", re.IGNORECASE)
# From 2008 on each year's set contains those before it, under these names.
_REPEATED_ID = re.compile(r"20\d\d_\d{6}")


class VOC2007Dataset(LayoutDataset):
    """``JPEGImages``, ``Annotations`` and ``ImageSets/Main`` of one year or several.

    Pixels count from 1 in the files and from 0 in the records. Where a year's ``test.txt`` comes
    with annotations, those tests are the validation and ``trainval`` of all years trains (the
    usual "07+12" protocol); otherwise ``train`` and ``val``; without lists there is a seeded
    split. The classes are the twenty of the challenge, unless the annotations have others: then
    the sorted names of the training split, and after them what only validation has.
    """

    layout = "VOC"
    looked_for = "VOCdevkit/, VOC2007/ to VOC2012/ or Annotations/ beside JPEGImages/"

    @classmethod
    def recognises(cls, folder: Folder) -> bool:
        return bool(_find_years(folder))

    @classmethod
    def read(cls, folder: Folder, remarks: Remarks) -> Reading:
        years = [_Year.open(f) for f in _find_years(folder)]
        train_ids, validation_ids = _choose_splits(years, remarks)
        if len(years) > 1:
            _drop_repeated(train_ids, validation_ids or [], remarks)
        train = _read(years, train_ids, remarks)
        # Where no list says which images belong to the set, the annotations do.
        unlisted = [y.folder.find_folder("JPEGImages") for y in years if not y.lists]
        used = {a.image_path for a in train}
        remark_unused("images without an XML file, not used", unlisted, used, remarks)
        validation = None if validation_ids is None else _read(years, validation_ids, remarks)
        return Reading(train, validation, _class_names(train, validation or [], remarks))


@dataclass(frozen=True)
class _Year:
    """One VOC-shaped folder: its annotation files by id and the ids of each list it has."""

    folder: Folder
    annotations: dict[str, Path]
    lists: dict[str, list[str]]

    @classmethod
    def open(cls, folder: Folder) -> _Year:
        inside = folder.find_folder("Annotations")
        annotations = {p.stem: p for p in inside.xml_files} if inside else {}
        sets = folder.find_folder("ImageSets")
        sets = (sets.find_folder("Main") or sets) if sets else None
        lists = {}
        for name in ("train", "val", "trainval", "test"):
            path = sets.find_file(f"{name}.txt") if sets else None
            if path is not None:
                lists[name] = _ids(path, annotations)
        return cls(folder, annotations, lists)

    def missing(self, ids: Sequence[str]) -> list[str]:
        return [i for i in ids if i not in self.annotations]

    def has_annotated_test(self) -> bool:
        """Whether most of its images are; later years annotate only a few of their test.txt."""
        test = self.lists.get("test", [])
        return bool(test) and len(self.missing(test)) * 2 <= len(test)

    def training_ids(self) -> list[str]:
        """``trainval``, as one list or two, or all ids where there are no lists."""
        if "trainval" in self.lists:
            return self.lists["trainval"]
        both = self.lists.get("train", []) + self.lists.get("val", [])
        return list(dict.fromkeys(both)) if self.lists else list(self.annotations)


# The ids of one split, one list per year.
_Ids = list[list[str]]


def _find_years(folder: Folder) -> list[Folder]:
    if _is_shaped(folder):
        return [folder]
    inside = (folder.find_folder("VOCdevkit") or folder).folders
    shaped = [f for f in inside if _is_shaped(f)]
    return [f for f in shaped if _YEAR.fullmatch(f.path.name)] or shaped


def _is_shaped(folder: Folder) -> bool:
    return bool(folder.find_folder("Annotations") and folder.find_folder("JPEGImages"))


def _ids(path: Path, known: dict[str, Path]) -> list[str]:
    """The image ids of a list; a path, an extension or a trailing 1, 0 or -1 is taken off."""
    ids: dict[str, None] = {}
    for line in read_text(path).splitlines():
        image_id = strip_image_suffix(basename(line))
        if image_id not in known:
            image_id = strip_image_suffix(re.sub(r"\s+(-1|0|1)$", "", image_id))
        if image_id:
            ids[image_id] = None
    return list(ids)


def _choose_splits(years: Sequence[_Year], remarks: Remarks) -> tuple[_Ids, _Ids | None]:
    for year in years:
        test = year.lists.get("test")
        if test and not year.has_annotated_test():
            remarks.note(
                f"{year.folder.path}: test.txt is not used, {len(year.missing(test))} of its "
                f"{len(test)} images have no annotation"
            )
    tested = [year.has_annotated_test() for year in years]
    if any(tested):
        _note_splits(years, "trainval", "test", remarks)
        validation = [y.lists["test"] if ok else [] for y, ok in zip(years, tested, strict=True)]
        return [year.training_ids() for year in years], validation
    if any(year.lists.get("val") and year.lists.get("train") for year in years):
        _note_splits(years, "train", "val", remarks)
        with_val = [bool(year.lists.get("val")) for year in years]
        train = [
            y.lists.get("train", []) if ok else y.training_ids()
            for y, ok in zip(years, with_val, strict=True)
        ]
        return train, [year.lists.get("val", []) for year in years]
    return [year.training_ids() for year in years], None


def _note_splits(years: Sequence[_Year], train: str, validation: str, remarks: Remarks) -> None:
    names = listed(year.folder.path.name for year in years)
    remarks.note(f"{names}: {train} is the training split, {validation} the validation split")


def _drop_repeated(train: _Ids, validation: _Ids, remarks: Remarks) -> None:
    """Keep one copy of an image that several years contain, the validation's and the latest."""
    seen: set[str] = set()
    for ids in [*reversed(validation), *reversed(train)]:
        repeated = {i for i in ids if i in seen and _REPEATED_ID.fullmatch(i)}
        for image_id in sorted(repeated):
            remarks.count("images that several years contain, used once", image_id, Severity.NOTE)
        ids[:] = [i for i in ids if i not in repeated]
        seen.update(ids)


def _read(years: Sequence[_Year], split: _Ids, remarks: Remarks) -> list[Annotation]:
    records: list[Annotation] = []
    for year, ids in zip(years, split, strict=True):
        missing = year.missing(ids)
        remarks.count_all(
            f"image(s) of ImageSets without XML in {year.folder.path}/Annotations (restore the "
            f"files or remove the names){year.folder.link_hint()}",
            missing,
            Severity.ERROR,
        )
        index = ImageIndex([year.folder.find_folder("JPEGImages")])
        files = [year.annotations[i] for i in ids if i in year.annotations]
        records += read_annotations(files, index, remarks, origin=1)
    return records


def _class_names(
    train: Sequence[Annotation], validation: Sequence[Annotation], remarks: Remarks
) -> list[str]:
    trained = occurring_names(*train)
    untrained = [n for n in occurring_names(*validation) if n not in trained]
    if set(trained + untrained) <= set(VOC_CLASSES):
        return list(VOC_CLASSES)
    remarks.note(
        "the classes are those of the annotations, not the twenty of VOC: "
        f"{listed(trained + untrained, 30)}"
    )
    if untrained:
        names = listed(f"{n!r}{did_you_mean(n, trained)}" for n in untrained)
        remarks.warn(f"classes that only the validation split has, never trained: {names}")
    return trained + untrained
