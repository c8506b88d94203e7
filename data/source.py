"""The data set of a run: the user's folder, or cards drawn by the program."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from data import open_dataset
from data.dataset import DataSplits
from data.drawn_cards.demo_cards import demo_cards_folder
from data.image_files.cache import ImageCache, bytes_in_memory, is_shared_with_workers
from data.splits import VALIDATION_FRACTION
from utils.console import progress_bar, say
from utils.errors import UserError

# Of the memory that is left; the rest is for the detector, its gradients and the loader.
SHARE_OF_MEMORY = 0.5


@dataclass(frozen=True)
class DataSource:
    """Where a data set is: a folder, or None for drawn cards. Plain enough for a checkpoint.

    path: absolute. images: drawn training images; a tenth as many are drawn for validation.
    skip_bad_images: leave out what is missing or cannot be read, instead of refusing the data set.
    """

    path: str | None
    images: int = 1200
    validation_fraction: float = VALIDATION_FRACTION
    seed: int = 0
    skip_bad_images: bool = False

    @classmethod
    def remembered(
        cls,
        data: Mapping[str, Any],
        origin: str,
        *,
        path: str | None = None,
        on_bad_image: str | None = None,
    ) -> DataSource:
        """The data set of a checkpoint.

        data: the checkpoint's own settings; they also apply to another folder, ``path``. origin:
        the checkpoint and its flag, for messages. on_bad_image: "skip" or "fail", and None for
        what is remembered. Raises UserError when the remembered folder is gone.
        """
        folder: dict[str, Any] = {"path": str(Path(path).resolve())} if path else {}
        try:
            source = cls(**{**data, **folder})
        except TypeError:  # a checkpoint of another program, or of none
            source = cls(**folder or {"path": "nowhere"})
        if source.path and not folder and not Path(source.path).is_dir():
            raise UserError(
                f"{origin}: the data set it was trained on, {source.path}, is no longer "
                "there; give its folder with -p."
            )
        if on_bad_image is None:
            return source
        return dataclasses.replace(source, skip_bad_images=on_bad_image == "skip")

    def open(
        self,
        cache_folder: str,
        progress: Callable[[int, int], None] | None = None,
        *,
        overfit: int = 0,
        split_flags: Sequence[str] = (),
    ) -> DataSplits:
        """Read the data set; drawn cards are made in ``cache_folder`` if need be.

        overfit: if not 0, both splits are the first ``overfit`` training images. split_flags: see
        ``open_dataset``.
        """
        if self.path is None:
            cache, validation_images = Path(cache_folder).expanduser(), max(1, self.images // 10)
            folder = demo_cards_folder(cache, self.images, validation_images, progress=progress)
        else:
            folder = Path(self.path)
        splits = open_dataset(
            folder,
            validation_fraction=self.validation_fraction,
            seed=self.seed,
            skip_bad_images=self.skip_bad_images,
            split_flags=split_flags,
            progress=progress,
        )
        if not overfit:
            return splits
        few = splits.train.subset(range(min(overfit, len(splits.train))))
        note = f"--overfit {overfit}: validated on the very images it trains on"
        return DataSplits(few, few, splits.layout, (*splits.notes, note))

    def open_for_run(
        self,
        cache_folder: str,
        *,
        overfit: int = 0,
        class_names: tuple[str, ...] = (),
        checkpoint: Path | str = "",
        other_classes: bool = False,
        split_flags: Sequence[str] = (),
    ) -> DataSplits:
        """``open`` with a progress bar, then describe the data set on the terminal.

        class_names: those of ``checkpoint``, by which the data are labelled. Names that it lacks
        are a UserError unless ``other_classes``, where any difference keeps the data's own names.
        """
        with progress_bar("images") as progress:
            splits = self.open(cache_folder, progress, overfit=overfit, split_flags=split_flags)
        if class_names and not (other_classes and set(class_names) != set(splits.class_names)):
            splits = match_classes(splits, class_names, f"the checkpoint {checkpoint}")
        for label, text in describe_splits(splits, self):
            say(label, text)
        return splits


def describe_splits(splits: DataSplits, source: DataSource) -> list[tuple[str, str]]:
    """(label, text) lines: the sizes, the reader's notes, the class list with its ids."""
    place = source.path or "drawn by the program, because -p is not given"
    train, validation = splits.train.label_counts(), splits.validation.label_counts()
    sizes = (
        f"{len(splits.train)} training images ({sum(train.values())} objects), "
        f"{len(splits.validation)} validation images ({sum(validation.values())} objects)"
    )
    classes = ", ".join(
        f"{label} {name} ({train[name]}, {validation[name]})"
        for label, name in enumerate(splits.class_names, start=1)
    )
    return [
        ("data", f"{splits.layout}, {place}: {sizes}"),
        *(("note", note) for note in splits.notes),
        ("classes", f"{classes}  [objects in training, validation]"),
    ]


def keep_decoded(splits: DataSplits, memory: int, workers: int) -> tuple[DataSplits, str]:
    """The same data whose images stay in memory once decoded, if they fit, and a text about it.

    memory: bytes that are left, of which they may take a share. workers: of the loaders.
    """
    images = [*chain(splits.train.sizes(), splits.validation.sizes())]
    size = f"{len(set(images))} decoded images, {bytes_in_memory(images) / 1e9:.2f} GB"
    left = f"{SHARE_OF_MEMORY:.0%} of the {memory / 1e9:.1f} GB of memory that are left"
    if bytes_in_memory(images) > SHARE_OF_MEMORY * memory:
        return splits, f"off: {size}, are more than {left}; each is decoded when it is needed"
    if workers and not is_shared_with_workers():
        return splits, "off: this system's loader processes share no memory; --workers 0 uses it"
    try:
        cache = ImageCache(images)
    except OSError as error:
        return splits, f"off: the system gives no memory for {size} ({error})"
    train, validation = splits.train.cached(cache), splits.validation.cached(cache)
    kept = dataclasses.replace(splits, train=train, validation=validation)
    return kept, f"{size}, stay in memory"


def match_classes(splits: DataSplits, class_names: tuple[str, ...], owner: str) -> DataSplits:
    """The same data labelled by ``class_names``, for example a checkpoint's.

    The order may differ, and a class may be absent from the data; a class that ``class_names``
    does not know is a UserError that shows both lists. owner: whose list it is, for the message.
    """
    if splits.class_names == class_names:
        return splits
    unknown = [name for name in splits.class_names if name not in class_names]
    if unknown:
        raise UserError(
            f"the data set's classes are {', '.join(splits.class_names)}; {owner} knows "
            f"{', '.join(class_names)} and not {', '.join(unknown)}; give the data set it belongs "
            "to, or train a new detector."
        )
    absent = [name for name in class_names if name not in splits.class_names]
    notes = (*splits.notes, f"the data set has no {', '.join(absent)}") if absent else splits.notes
    train, validation = (s.renamed_to(class_names) for s in (splits.train, splits.validation))
    return DataSplits(train, validation, splits.layout, notes)
