"""Which JSON files of a folder are COCO's, of which split, and where their images lie."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from data.reading.folder import Folder
from data.reading.image_lookup import PathIndex
from data.remarks import Remarks
from utils.errors import UserError
from utils.text import fold, listed

# The words in a file's or folder's name that name its split.
SPLITS = {
    "train": ("train", "training", "trainval"),
    "val": ("val", "valid", "validation", "minival"),
    "test": ("test", "testing"),
}
# What tools call the one JSON of a folder: Roboflow, FiftyOne, labelme2coco, Label Studio.
SOLE_FILES = ("_annotations.coco.json", "labels.json", "annotations.json", "result.json")
# Files of the COCO download that hold no boxes.
_OTHER_TASKS = re.compile(r"^(captions|image_info|panoptic|stuff)", re.IGNORECASE)
IMAGE_FOLDERS = ("images", "data", "JPEGImages")


def split_of(name: str) -> str:
    """``train`` for ``instances_train2017.json``; an empty string where the name has none."""
    words = set(re.split(r"[^a-z]+", name.lower()))
    return next((split for split, known in SPLITS.items() if words.intersection(known)), "")


def find_files(folder: Folder) -> list[tuple[str, Path]]:
    """(split, JSON) of every file that may be COCO's, by name alone."""
    inside = folder.find_folder("annotations")
    files = [p for p in _json_files(inside) if not _OTHER_TASKS.match(p.name)] if inside else []
    # person_keypoints_*.json is COCO's as well, but of the people only.
    files = [p for p in files if p.name.lower().startswith("instances")] or files
    if files:
        return [(split_of(p.name), p) for p in files]
    splits = ((split, folder.find_folder(*known)) for split, known in SPLITS.items())
    beside = [(split, p) for split, f in splits if f is not None and (p := _sole_file(f))]
    if beside:
        return beside
    named = [(split, p) for p in _json_files(folder) if (split := split_of(p.name))]
    if any(split == "train" for split, _ in named):
        return named
    sole = _sole_file(folder)
    return [("", sole)] if sole else []


def _json_files(folder: Folder) -> list[Path]:
    return [p for p in folder.files.values() if p.suffix.lower() == ".json"]


def _sole_file(folder: Folder) -> Path | None:
    return next((p for name in SOLE_FILES if (p := folder.find_file(name))), None)


def choose_files(folder: Folder, remarks: Remarks) -> tuple[Path, Path | None]:
    """The JSON of training and that of validation, None where there is none of its own."""
    files: dict[str, list[Path]] = defaultdict(list)
    for split, path in find_files(folder):
        files[split].append(path)
    train = files["train"] or files[""]
    validation = files["val"] or files["test"]
    if not train:
        raise UserError(
            f"{folder.path}: no COCO file for training; found {_names(folder, validation)}. "
            "Expected train in the file's or its folder's name."
        )
    for paths, split in ((train, "training"), (validation, "validation")):
        if len(paths) > 1:
            raise UserError(
                f"{folder.path}: several COCO files for {split}: {_names(folder, paths)}; keep one."
            )
    used = [*train, *validation]
    unused = [path for paths in files.values() for path in paths if path not in used]
    if validation:
        remarks.note(
            f"{_names(folder, train)} is the training split, {_names(folder, validation)} the "
            "validation split"
        )
    if unused:
        remarks.note(f"not used: {_names(folder, unused)}")
    return train[0], next(iter(validation), None)


def _names(folder: Folder, paths: Sequence[Path]) -> str:
    return listed(p.relative_to(folder.path) for p in paths)


def image_index(folder: Folder, json_path: Path) -> PathIndex:
    """Look-up of the images of one JSON by ``file_name``."""
    bases = [folder, *(f for n in IMAGE_FOLDERS if (f := folder.find_folder(n)))]
    inside = [f for base in bases for f in base.folders]
    split = split_of(json_path.name) or split_of(json_path.parent.name)
    of_split = [f for f in inside if split and split_of(f.path.name) == split]
    # train2017/ comes before train2014/ for a file that is called instances_train2017.json.
    of_split.sort(key=lambda f: fold(f.path.name) not in fold(json_path.name))
    of_split += [f for base in of_split for n in IMAGE_FOLDERS if (f := base.find_folder(n))]
    # Not the other split's: splits that are numbered alike would take each other's images.
    others = [f for f in inside if not split or not split_of(f.path.name)]
    folders = list({f.path: f for f in (*of_split, *bases, *others)}.values())
    return PathIndex(folders, folders)
