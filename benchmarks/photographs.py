"""Real photographs and their objects, at the size that all detectors compute on."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from data import open_dataset
from data.dataset import Dataset


def training_split(cards: Path) -> Dataset:
    """The training photographs as they are."""
    return open_dataset(cards).train


def photographs(
    cards: Path, size: tuple[int, int], count: int
) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Landscapes of the training split, resized to ``size`` (height, width).

    Returns float (3, H, W) in 0..1 and targets: ``boxes`` (N, 4) xyxy, ``labels`` (N,).
    """
    images, targets = [], []
    split = training_split(cards)
    index = 0
    while len(images) < count:
        sample = split.sample(index % len(split))
        index += 1
        if sample.image.width < sample.image.height:
            continue
        scale = torch.tensor([size[1] / sample.image.width, size[0] / sample.image.height] * 2)
        image = sample.image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        images.append(F.pil_to_tensor(image).float() / 255)
        targets.append({"boxes": sample.boxes * scale, "labels": sample.labels})
    return images, targets
