"""Data sets: from a user's folder to images and targets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from data.reading.folder import Folder, open_folder
from data.remarks import Remarks
from utils.errors import UserError
from utils.text import listed

if TYPE_CHECKING:
    from data.dataset import DataSplits
    from data.reading.base import LayoutDataset


def open_dataset(
    path: str | Path,
    *,
    validation_fraction: float = 0.2,
    seed: int = 0,
    skip_bad_images: bool = False,
    split_flags: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> DataSplits:
    """Recognise the layout of a folder by what is in it, and read its two splits.

    Tried in this order: playing cards (a CSV names the split and wins over XML that lies beside
    the images), VOC (folders of known names), Charlotte (any XML), COCO (JSON of known names).
    Where the data set has no split, ``validation_fraction`` of the images are set aside, by
    ``seed``. Of each image the header and the last bytes are read, and nothing is written.
    progress is called with (images done, images in all).

    Raises UserError in one line when the folder is absent, empty or not recognised, when an
    annotation is wrong, when a split is empty and, unless ``skip_bad_images``, when an image is
    missing or cannot be read; and for ``split_flags``, the given flags of a split made here, where
    the data set has its own.
    """
    folder, remarks = open_folder(path), Remarks()
    layout = layout_of(folder)
    survey = layout.survey(
        folder, validation_fraction, seed, remarks, split_flags=split_flags, progress=progress
    )
    remarks.refuse(str(folder.path), skip_bad_images=skip_bad_images, hint=folder.link_hint())
    assert survey is not None  # else there is an error
    return replace(survey.splits, notes=remarks.lines())


def layout_of(folder: Folder) -> type[LayoutDataset]:
    """The reader that recognises the folder. Raises UserError when none does."""
    if layout := _recognised(folder):
        return layout
    hint = ""
    for inside in folder.folders:
        if match := _recognised(inside):
            hint = f" Its folder {inside.path.name} looks like {match.layout}: give {inside.path}."
            break
    raise UserError(
        f"{folder.path}: no data set recognised; found {_contents(folder)}; looked for "
        f"{'; '.join(layout.looked_for for layout in _layouts())}.{hint}{folder.link_hint()}"
    )


def _recognised(folder: Folder) -> type[LayoutDataset] | None:
    return next((layout for layout in _layouts() if layout.recognises(folder)), None)


def _layouts() -> tuple[type[LayoutDataset], ...]:
    # These import torch, and whoever imports the package must not wait for it.
    from data.charlotte_dataset import CharlotteDataset
    from data.coco_dataset import CocoDataset
    from data.play_card_dataset import PlayCardDataset
    from data.voc2007_dataset import VOC2007Dataset

    return PlayCardDataset, VOC2007Dataset, CharlotteDataset, CocoDataset


def _contents(folder: Folder) -> str:
    """``17 images, 3 .txt files and the folders a, b``."""
    images = set(folder.images)
    suffixes = Counter(p.suffix.lower() for p in folder.files.values() if p not in images)
    parts = [f"{len(images)} images"]
    parts += [f"{n} {suffix or 'plain'} file(s)" for suffix, n in suffixes.most_common(5)]
    if folder.folders:
        parts.append("the folder(s) " + listed(f.path.name for f in folder.folders))
    return ", ".join(parts)
