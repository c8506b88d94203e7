"""A data set read as training would read it: what it holds and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data import layout_of
from data.checking.duplicates import remark_duplicates
from data.dataset import Dataset
from data.reading.folder import open_folder
from data.remarks import Remark, Remarks, Severity
from data.splits import VALIDATION_FRACTION

CLEAN, PROBLEMS, UNUSABLE = "clean", "problems", "unusable"


@dataclass(frozen=True)
class SplitFacts:
    """Counts of one split, after what cannot be used is left out.

    empty: images without objects. difficult: of the objects. classes: that have objects.
    sizes: how many images have each (width, height), the most frequent first. object_side: median
    of the square roots of the boxes' areas, in pixels, None without objects.
    """

    name: str
    images: int
    empty: int
    objects: int
    difficult: int
    classes: int
    sizes: dict[tuple[int, int], int]
    object_side: float | None

    @classmethod
    def of(cls, name: str, dataset: Dataset) -> SplitFacts:
        records = dataset.annotations
        sides = [np.sqrt((a.boxes[:, 2:] - a.boxes[:, :2]).prod(axis=1)) for a in records]
        objects = sum(len(a.names) for a in records)
        return cls(
            name=name,
            images=len(records),
            empty=sum(not a.names for a in records),
            objects=objects,
            difficult=sum(int(a.difficult.sum()) for a in records),
            classes=len({n for a in records for n in a.names}),
            sizes=dict(Counter(a.size for a in records if a.size is not None).most_common()),
            object_side=float(np.median(np.concatenate(sides))) if objects else None,
        )


@dataclass(frozen=True)
class Check:
    """What a data set holds. classes: objects in training and in validation, by name.

    remarks: everything that came up; their severity tells what training makes of it, where
    ``skip_bad_images`` is what the user decided about images that cannot be read.
    """

    path: str
    layout: str | None
    skip_bad_images: bool
    splits: list[SplitFacts] = field(default_factory=list)
    classes: dict[str, tuple[int, int]] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)

    def refused(self, remark: Remark) -> bool:
        """Whether training would refuse to start (if its quicker probe saw this too)."""
        if remark.severity is Severity.BAD_IMAGE:
            return not self.skip_bad_images
        return remark.severity is Severity.ERROR

    @property
    def problems(self) -> list[Remark]:
        """What is more than a note, the gravest first."""
        graver = (r for r in self.remarks if r.severity is not Severity.NOTE)
        return sorted(graver, key=lambda r: not self.refused(r))

    @property
    def verdict(self) -> str:
        if any(self.refused(remark) for remark in self.remarks):
            return UNUSABLE
        return PROBLEMS if self.problems else CLEAN

    def as_plain(self) -> dict[str, Any]:
        """For JSON. A remark has all its places, of more than ``KEPT_PLACES`` the first."""
        return {
            "path": self.path,
            "layout": self.layout,
            "verdict": self.verdict,
            "splits": [
                {**asdict(s), "sizes": [[*size, n] for size, n in s.sizes.items()]}
                for s in self.splits
            ],
            "classes": {n: dict(zip(SPLITS, c, strict=True)) for n, c in self.classes.items()},
            "problems": [self._plain(remark) for remark in self.problems],
            "notes": [self._plain(r) for r in self.remarks if r.severity is Severity.NOTE],
        }

    def _plain(self, remark: Remark) -> dict[str, Any]:
        return {
            "severity": remark.severity.value,
            "refused": self.refused(remark),
            "what": remark.what,
            "count": max(remark.count, 1),
            "places": remark.places,
        }


SPLITS = ("training", "validation")


def check_dataset(
    path: str | Path,
    *,
    validation_fraction: float = VALIDATION_FRACTION,
    seed: int = 0,
    skip_bad_images: bool = False,
    split_flags: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Check:
    """Read a data set as ``open_dataset`` does, decode every image, and keep all that is wrong.

    Nothing is written. progress is called with (images done, images in all). Whatever is wrong
    with the data is a remark and raises nothing.
    """
    remarks = Remarks()
    layout: str | None = None
    splits: list[SplitFacts] = []
    classes: dict[str, tuple[int, int]] = {}
    with remarks.catch_errors():
        folder = open_folder(path)
        reader = layout_of(folder)
        layout = reader.layout
        survey = reader.survey(
            folder,
            validation_fraction,
            seed,
            remarks,
            split_flags=split_flags,
            decode=True,
            progress=progress,
        )
        if survey is not None:
            datasets = (survey.splits.train, survey.splits.validation)
            splits = [SplitFacts.of(n, d) for n, d in zip(SPLITS, datasets, strict=True)]
            train, validation = (dataset.label_counts() for dataset in datasets)
            classes = {name: (train[name], validation[name]) for name in survey.splits.class_names}
            if len(classes) == 1:
                remarks.note("one class only: the detector tells it from background")
            remark_duplicates(survey.train_probes, survey.validation_probes, remarks)
    return Check(str(path), layout, skip_bad_images, splits, classes, list(remarks))
