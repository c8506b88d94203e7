"""What the readers of all layouts share: from a folder to two checked splits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from data.checking.box_checks import check_boxes
from data.dataset import Annotation, Dataset, DataSplits, unknown_names
from data.image_files.read import ImageProbe
from data.reading.class_names import name_counts, occurring_names, remark_names
from data.reading.folder import Folder
from data.remarks import Remarks, Severity
from data.splits import seeded_split
from utils.errors import UserError
from utils.text import listed

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Reading:
    """What a reader read. ``validation`` is None where the data set has no split of its own.

    crowds: by image, regions where detections are not judged. They join the records of validation,
    after the split; training does not see them.
    """

    train: Sequence[Annotation]
    validation: Sequence[Annotation] | None
    class_names: Sequence[str]
    crowds: Mapping[Path, Annotation] = field(default_factory=dict)


class Survey(NamedTuple):
    """What reading a data set gave. The probes are of all images, also of unreadable ones."""

    splits: DataSplits
    train_probes: list[ImageProbe]
    validation_probes: list[ImageProbe]


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
    def read(cls, folder: Folder, remarks: Remarks) -> Reading:
        """The records of a recognised folder; what is wrong in it goes into ``remarks``.

        Raises UserError where nothing can be read at all.
        """
        raise NotImplementedError

    @classmethod
    def survey(
        cls,
        folder: Folder,
        validation_fraction: float,
        seed: int,
        remarks: Remarks,
        *,
        split_flags: Sequence[str] = (),
        decode: bool = False,
        progress: Progress | None = None,
    ) -> Survey | None:
        """Read everything; all that is wrong goes into ``remarks``. None: no splits can be made.

        split_flags: see ``open_dataset``. decode: read the pixels of each image and not only its
        header. progress is called with (images done, images in all).
        """
        with remarks.catch_errors():
            reading = cls.read(folder, remarks)
            if split_flags and reading.validation is not None:
                raise UserError(
                    f"{', '.join(split_flags)}: the data set {folder.path} has a validation split "
                    "of its own, so none is made; leave the flag out."
                )
            train, validation = _split(reading, folder, validation_fraction, seed, remarks)
            both, first = [*train, *validation], len(train)
            _refuse_fractions(both, folder)
            checked, probes = check_boxes(
                both,
                remarks,
                decode=decode,
                progress=None if progress is None else lambda done: progress(done, len(both)),
            )
            train = [record for record in checked[:first] if record is not None]
            validation = [record for record in checked[first:] if record is not None]
            _refuse_useless(train, validation, folder)
            class_names = _all_names(reading.class_names, validation, remarks)
            _remark_shared(train, validation, remarks)
            remark_names(class_names, name_counts(train), name_counts(validation), remarks)
            if folder.escaping:
                remarks.warn(folder.link_hint().strip())
            splits = DataSplits(cls(train, class_names), cls(validation, class_names), cls.layout)
            return Survey(splits, probes[:first], probes[first:])
        return None


def _split(
    reading: Reading, folder: Folder, validation_fraction: float, seed: int, remarks: Remarks
) -> tuple[Sequence[Annotation], Sequence[Annotation]]:
    """The records of training and validation. Raises UserError where one of them is empty."""
    train, validation = reading.train, reading.validation
    if not train or not any(a.names for a in train):
        without = " without any object" if train else ""
        raise UserError(
            f"{folder.path}: the training split has {len(train)} image(s){without}; expected "
            f"images with annotated objects.{folder.link_hint()}"
        )
    if validation is None:
        train, validation = seeded_split(train, validation_fraction, seed)
        remarks.note(
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
    """Raise UserError where no readable image is left to learn from or to evaluate on."""
    for split, records in (("training", train), ("validation", validation)):
        if not records:
            raise UserError(f"{folder.path}: no {split} image can be read.")
    if not any(record.names for record in train):
        raise UserError(f"{folder.path}: no object of the training split lies inside its image.")


def _refuse_fractions(records: Sequence[Annotation], folder: Folder) -> None:
    """Corners from 0 to 1 are shares of the image, as YOLO writes them, and no pixels."""
    boxes = [(record, box) for record in records for box in record.boxes]
    fractions = [(record, box) for record, box in boxes if box.min() >= 0 and box.max() <= 1]
    if len(fractions) > len(boxes) / 2:
        record, box = fractions[0]
        raise UserError(
            f"{folder.path}: {len(fractions)} of {len(boxes)} boxes have all coordinates between 0 "
            f"and 1, e.g. {record.source}, {record.image_path.name}: {[*map(float, box.round(4))]};"
            " they look like shares of the image's size; expected pixels. Multiply them by the "
            "image's width and height."
        )


def _all_names(
    class_names: Sequence[str], validation: Sequence[Annotation], remarks: Remarks
) -> Sequence[str]:
    """The class list, and after it the names that only validation has, which are an error."""
    remarks.count_all(
        f"classes not in the list {listed(class_names)} (correct the names or add the classes to "
        "the training data)",
        unknown_names(validation, class_names),
        Severity.ERROR,
    )
    return [*class_names, *(n for n in occurring_names(*validation) if n not in class_names)]


def _with_crowds(annotation: Annotation, regions: Annotation | None) -> Annotation:
    if regions is None:
        return annotation
    crowd = np.arange(len(annotation.names) + len(regions.names)) >= len(annotation.names)
    return replace(
        annotation,
        boxes=np.concatenate([annotation.boxes, regions.boxes]),
        names=annotation.names + regions.names,
        difficult=np.concatenate([annotation.difficult, regions.difficult]),
        crowd=crowd,
    )


def _remark_shared(
    train: Sequence[Annotation], validation: Sequence[Annotation], remarks: Remarks
) -> None:
    shared = {a.image_path for a in train} & {a.image_path for a in validation}
    remarks.count_all(
        "images that are in training and in validation, which flatters the mAP",
        [str(path) for path in sorted(shared)],
    )
