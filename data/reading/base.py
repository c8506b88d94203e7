"""What the readers of all layouts share: from a folder to two checked splits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from data.checking.box_checks import inspect
from data.dataset import Annotation, Dataset, DataSplits, unknown_names
from data.image_files.read import Picture
from data.reading.class_names import found_names, name_counts, remark_names
from data.reading.folder import Folder, open_folder
from data.remarks import Notes, Severity, listed
from data.splits import seeded_split
from utils.errors import UserError

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Reading:
    """What a reader found. ``validation`` is None where the data set has no split of its own.

    crowds: by image, regions where detections are not judged. They join the records of validation,
    after the split; training does not see them.
    """

    train: Sequence[Annotation]
    validation: Sequence[Annotation] | None
    class_names: Sequence[str]
    crowds: Mapping[Path, Annotation] = field(default_factory=dict)


@dataclass
class Survey:
    """What reading a data set gave. splits: None where there is too much wrong to make any.

    train_pictures, validation_pictures: one for each record that was looked at.
    """

    splits: DataSplits | None = None
    train_pictures: list[Picture] = field(default_factory=list)
    validation_pictures: list[Picture] = field(default_factory=list)


class LayoutDataset(Dataset):
    """A ``Dataset`` that can recognise and read a folder of its layout.

    layout: its name for users. looked_for: what ``recognises`` looks for, for messages.
    """

    layout: ClassVar[str]
    looked_for: ClassVar[str]

    @classmethod
    def recognises(cls, folder: Folder) -> bool:
        """Whether the names in the folder are those of this layout; no file is opened."""
        raise NotImplementedError

    @classmethod
    def read(cls, folder: Folder, notes: Notes) -> Reading:
        """The records of a recognised folder; what is wrong in it goes into ``notes``.

        Raises UserError where nothing can be read at all.
        """
        raise NotImplementedError

    @classmethod
    def open(
        cls, path: str | Path, *, validation_fraction: float = 0.2, seed: int = 0
    ) -> DataSplits:
        """Training and validation from a folder of this layout, without asking if it is one."""
        return cls.open_listed(open_folder(path), validation_fraction, seed)

    @classmethod
    def open_listed(
        cls,
        folder: Folder,
        validation_fraction: float,
        seed: int,
        *,
        skip_bad_images: bool = False,
        progress: Progress | None = None,
    ) -> DataSplits:
        """As ``open``, for a folder that is already listed.

        Raises UserError for the first thing that training cannot go on with, see ``survey``.
        """
        notes = Notes(collecting=True)
        splits = cls.survey(folder, validation_fraction, seed, notes, progress=progress).splits
        notes.refuse(str(folder.path), skip_bad_images=skip_bad_images, hint=folder.link_hint())
        assert splits is not None  # else there is an error
        return replace(splits, notes=notes.lines())

    @classmethod
    def survey(
        cls,
        folder: Folder,
        validation_fraction: float,
        seed: int,
        notes: Notes,
        *,
        decode: bool = False,
        progress: Progress | None = None,
    ) -> Survey:
        """Read everything; all that is wrong is in ``notes``, which collect it.

        decode: read the pixels of each picture and not only its header. progress is called with
        (images done, images in all).
        """
        survey = Survey()
        with notes.catching():
            reading = cls.read(folder, notes)
            train, validation = _split(reading, folder, validation_fraction, seed, notes)
            _refuse_fractions([*train, *validation], folder)
            before, total = len(train), len(train) + len(validation)
            train, survey.train_pictures = inspect(
                train, notes, decode=decode, progress=_counted(progress, 0, total)
            )
            validation, survey.validation_pictures = inspect(
                validation, notes, decode=decode, progress=_counted(progress, before, total)
            )
            _refuse_useless(train, validation, folder)
            class_names = _known_names(reading.class_names, validation, notes)
            _remark_shared(train, validation, notes)
            remark_names(class_names, name_counts(train), name_counts(validation), notes)
            if folder.escaping:
                notes.warn(folder.link_hint().strip())
            survey.splits = DataSplits(
                train=cls(train, class_names),
                validation=cls(validation, class_names),
                layout=cls.layout,
            )
        return survey


def _counted(progress: Progress | None, before: int, total: int) -> Callable[[int], None] | None:
    return None if progress is None else lambda done: progress(before + done, total)


def _split(
    reading: Reading, folder: Folder, validation_fraction: float, seed: int, notes: Notes
) -> tuple[Sequence[Annotation], Sequence[Annotation]]:
    """The records of training and validation. Raises UserError where one of them is empty."""
    train, validation = reading.train, reading.validation
    if not train or not any(a.names for a in train):
        found = f"{len(train)} image(s)" + (" without any object" if train else "")
        raise UserError(
            f"{folder.path}: the training split has {found}; expected images with "
            f"annotated objects.{folder.link_hint()}"
        )
    if validation is None:
        train, validation = seeded_split(train, validation_fraction, seed)
        notes.say(
            f"no validation split in the data set: {len(validation)} of "
            f"{len(train) + len(validation)} images set aside for it (seed {seed})"
        )
    if not validation:
        raise UserError(
            f"{folder.path}: the validation split has no image; add some, or "
            "remove its list or folder to have a part of the training images set "
            f"aside.{folder.link_hint()}"
        )
    return train, [_with_crowds(a, reading.crowds.get(a.image_path)) for a in validation]


def _refuse_useless(
    train: Sequence[Annotation], validation: Sequence[Annotation], folder: Folder
) -> None:
    """Raise UserError where looking at the pictures left nothing to learn from or to judge by."""
    for split, records in (("training", train), ("validation", validation)):
        if not records:
            raise UserError(f"{folder.path}: no {split} image can be read.")
    if not any(record.names for record in train):
        raise UserError(f"{folder.path}: no object of the training split lies inside its image.")


def _refuse_fractions(records: Sequence[Annotation], folder: Folder) -> None:
    """Corners from 0 to 1 are shares of the picture, as YOLO writes them, and no pixels."""
    boxes = [(record, box) for record in records for box in record.boxes]
    fractions = [(record, box) for record, box in boxes if box.min() >= 0 and box.max() <= 1]
    if len(fractions) > len(boxes) / 2:
        record, box = fractions[0]
        raise UserError(
            f"{folder.path}: {len(fractions)} of {len(boxes)} boxes have all coordinates between 0 "
            f"and 1, e.g. {record.source}, {record.image_path.name}: {[*map(float, box.round(4))]};"
            " they look like shares of the picture's size; expected pixels. Multiply them by the "
            "picture's width and height."
        )


def _known_names(
    class_names: Sequence[str], validation: Sequence[Annotation], notes: Notes
) -> Sequence[str]:
    """The class list, with the names that only validation has where these can be collected."""
    notes.count_all(
        f"classes not in the list {listed(class_names)} (correct the names or add the classes to "
        "the training data)",
        unknown_names(validation, class_names),
        Severity.ERROR,
    )
    return [*class_names, *(n for n in found_names(*validation) if n not in class_names)]


def _with_crowds(annotation: Annotation, regions: Annotation | None) -> Annotation:
    if regions is None:
        return annotation
    own = np.zeros(len(annotation.names), dtype=bool)
    return replace(
        annotation,
        boxes=np.concatenate([annotation.boxes, regions.boxes]),
        names=annotation.names + regions.names,
        difficult=np.concatenate([annotation.difficult, regions.difficult]),
        crowd=np.concatenate([own, np.ones(len(regions.names), dtype=bool)]),
    )


def _remark_shared(
    train: Sequence[Annotation], validation: Sequence[Annotation], notes: Notes
) -> None:
    shared = {a.image_path for a in train} & {a.image_path for a in validation}
    notes.count_all(
        "images that are in training and in validation, which flatters the mAP",
        [str(path) for path in sorted(shared)],
    )
