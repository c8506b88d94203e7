"""The objects of a data set, cut out: images for a classifier to learn from.

The detector's loss teaches the backbone little about classes at first; a classifier of crops
teaches it sooner.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from data.augmentation import FILL
from data.dataset import Dataset, Sample

MARGIN = 1.5  # side of the window that is cut out, in sides of the object's longer side
BACKGROUND_SHARE = 0.25  # background crops for each object
MAX_OVERLAP = 0.1  # share of a background window, or of an object, that may overlap


@dataclass(frozen=True)
class Crops:
    """images: uint8 (N, 3, S, S). labels: int64 (N,), 0 is background. image_ids: int64 (N,)."""

    images: Tensor
    labels: Tensor
    image_ids: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, rows: Tensor) -> Crops:
        return Crops(self.images[rows], self.labels[rows], self.image_ids[rows])

    def split(self, fraction: float, seed: int) -> tuple[Crops, Crops]:
        """The crops of most images, and those of a held-out ``fraction`` of the images."""
        ids = self.image_ids.unique()
        generator = torch.Generator().manual_seed(seed)
        order = ids[torch.randperm(len(ids), generator=generator)]
        held_out = torch.isin(self.image_ids, order[: round(len(ids) * fraction)])
        return self.select(~held_out), self.select(held_out)


def crop_objects(
    dataset: Dataset,
    side: int,
    *,
    max_crops: int = 4000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Crops:
    """Square windows around the objects, and some of background, ``side`` pixels square.

    A window is ``MARGIN`` times as wide as its object is long, so that a part of it can be chosen
    anew each time it is shown. Of data sets with more than ``max_crops`` objects, images are drawn
    at random until there are that many. progress is called with (images done, images in all).
    """
    random = np.random.default_rng(seed)
    images: list[Tensor] = []
    labels: list[int] = []
    image_ids: list[int] = []
    indices = [i for i in random.permutation(len(dataset)).tolist() if dataset.labels(i)]
    for done, index in enumerate(indices):
        if len(labels) >= max_crops:
            break
        sample = dataset.readable_sample(index)
        if sample is None:
            continue
        for label, window in _object_windows(sample) + _background_windows(sample, random):
            images.append(_cut(sample.image, window, side))
            labels.append(label)
            image_ids.append(index)
        if progress is not None:
            progress(done + 1, len(indices))
    stacked = torch.stack(images) if images else torch.zeros(0, 3, side, side, dtype=torch.uint8)
    rows = (torch.tensor(values, dtype=torch.int64) for values in (labels, image_ids))
    return Crops(stacked, *rows)


def typical_side(dataset: Dataset, image_size: int) -> float:
    """Median longer side, in pixels, of the objects once their images are ``image_size`` long.

    Falls back to a quarter of ``image_size`` where annotations do not state the images' sizes.
    """
    sides = [
        (box[2:] - box[:2]).max() * image_size / max(annotation.size)
        for annotation in dataset.annotations
        if annotation.size is not None and max(annotation.size) > 0
        for box in annotation.boxes
    ]
    return float(np.median(sides)) if sides else image_size / 4


Window = tuple[float, float, float]  # left, top, side


def _object_windows(sample: Sample) -> list[tuple[int, Window]]:
    windows = []
    for box, label in zip(sample.boxes.tolist(), sample.labels.tolist(), strict=True):
        left, top, right, bottom = box
        side = MARGIN * max(right - left, bottom - top, 2.0)
        windows.append((label, ((left + right - side) / 2, (top + bottom - side) / 2, side)))
    return windows


def _background_windows(sample: Sample, random: np.random.Generator) -> list[tuple[int, Window]]:
    """Windows as large as the image's objects' that hardly touch an object."""
    windows = []
    for box in sample.boxes[random.random(len(sample.boxes)) < BACKGROUND_SHARE]:
        side = MARGIN * float((box[2:] - box[:2]).max())
        for _ in range(10):
            left = random.uniform(-0.1 * side, max(1.0, sample.image.width - 0.9 * side))
            top = random.uniform(-0.1 * side, max(1.0, sample.image.height - 0.9 * side))
            if coverage(sample.boxes, left, top, side) <= MAX_OVERLAP:
                windows.append((0, (left, top, side)))
                break
    return windows


def coverage(boxes: Tensor, left: float, top: float, side: float) -> float:
    """The largest share that one box and the window have in common, of the smaller of the two."""
    window = torch.tensor([left, top, left + side, top + side])
    shared = torch.minimum(boxes[:, 2:], window[2:]) - torch.maximum(boxes[:, :2], window[:2])
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).clamp(min=1e-6, max=side**2)
    return float((shared.clamp(min=0).prod(dim=1) / areas).max())


def _cut(image: Image.Image, window: Window, side: int) -> Tensor:
    x, y, length = window
    corners = (x, y, x + length, y + length)
    if length <= 2 * side:
        size, extent, bicubic = (side, side), Image.Transform.EXTENT, Image.Resampling.BICUBIC
        return F.pil_to_tensor(image.transform(size, extent, corners, bicubic, fillcolor=FILL))
    # Whole pixels first, which a filter that averages then shrinks, so that nothing aliases.
    left, top, right, bottom = (round(c) for c in corners)
    canvas = Image.new("RGB", (right - left, bottom - top), FILL)
    canvas.paste(image, (-left, -top))
    return F.pil_to_tensor(canvas.resize((side, side), Image.Resampling.BILINEAR))
