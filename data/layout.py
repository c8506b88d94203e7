"""What the readers of all layouts share: from a folder to two checked splits."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from data.dataset import Annotation, Dataset, DataSplits
from data.folder import Folder, open_folder
from data.notes import Notes, listed
from data.splits import seeded_split
from utils.errors import UserError


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
        """The records of a recognised folder. Raises UserError for what a user has to put right."""
        raise NotImplementedError

    @classmethod
    def open(
        cls, path: str | Path, *, validation_fraction: float = 0.2, seed: int = 0
    ) -> DataSplits:
        """Training and validation from a folder of this layout, without asking if it is one."""
        return cls.open_listed(open_folder(path), validation_fraction, seed)

    @classmethod
    def open_listed(cls, folder: Folder, validation_fraction: float, seed: int) -> DataSplits:
        """As ``open``, for a folder that is already listed.

        Raises UserError when a split is empty or there is no object to learn from.
        """
        notes = Notes()
        reading = cls.read(folder, notes)
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
        validation = [_with_crowds(a, reading.crowds.get(a.image_path)) for a in validation]
        _remark(train, validation, reading.class_names, folder, notes)
        return DataSplits(
            train=cls(train, reading.class_names),
            validation=cls(validation, reading.class_names),
            layout=cls.layout,
            notes=notes.lines(),
        )


def found_names(*annotations: Annotation) -> list[str]:
    """The class names that occur, sorted."""
    return sorted({name for a in annotations for name in a.names})


def name_counts(annotations: Sequence[Annotation]) -> Counter[str]:
    """Objects a class name."""
    return Counter(name for a in annotations for name in a.names)


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


def _remark(
    train: Sequence[Annotation],
    validation: Sequence[Annotation],
    class_names: Sequence[str],
    folder: Folder,
    notes: Notes,
) -> None:
    shared = sorted({a.image_path for a in train} & {a.image_path for a in validation})
    if shared:
        notes.say(
            f"{len(shared)} image(s) are in training and in validation, which flatters the "
            f"mAP: {listed((p.name for p in shared), 3)}"
        )
    trained = {name for a in train for name in a.names}
    untrained = [name for name in class_names if name not in trained]
    if untrained:
        notes.say(f"classes without an object in the training split: {listed(untrained)}")
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in class_names:
        spellings[name.casefold()].append(name)
    twins = [" / ".join(same) for same in spellings.values() if len(same) > 1]
    if twins:
        notes.say(f"classes that differ only in capitals are taken as different: {listed(twins)}")
    if folder.escaping:
        notes.say(folder.link_hint().strip())
