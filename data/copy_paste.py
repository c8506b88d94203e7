"""Copy-paste: objects of other training images, pasted where there is room.

Cut, Paste and Learn, Dwibedi et al., https://arxiv.org/abs/1708.01642; Simple Copy-Paste, Ghiasi et
al., https://arxiv.org/abs/2012.07177. Boxes are all there is to cut by, so what is pasted is the
rectangle, with soft edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from data.dataset import Dataset, Target

MAX_OBJECTS = 1000  # more are no more variety for a run of hours
TRIES = 4  # places that are tried for each object
FEATHER = 2  # pixels over which an object fades into its surroundings


class CutObject(NamedTuple):
    """image: uint8 (3, H, W), as large as it is when its own image is ``image_size`` long."""

    image: Tensor
    label: int


def cut_objects(dataset: Dataset, image_size: int, seed: int = 0) -> list[CutObject]:
    """The objects of a data set, of at most ``MAX_OBJECTS``; difficult ones are left out.

    image_size: pixels of the longer side of their images.
    """
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed)).tolist()
    objects: list[CutObject] = []
    for index in order:
        sample = dataset.readable_sample(index) if dataset.labels(index) else None
        if sample is None:
            continue
        image = F.pil_to_tensor(sample.image)
        scale = image_size / max(image.shape[-2:])
        rows = zip(sample.boxes.round().int().tolist(), sample.labels.tolist(), strict=True)
        for (x1, y1, x2, y2), label in (
            row for row, hard in zip(rows, sample.difficult.tolist(), strict=True) if not hard
        ):
            size = [round((y2 - y1) * scale), round((x2 - x1) * scale)]
            if min(size) > 2 * FEATHER:
                cut = F.resize(image[:, y1:y2, x1:x2], size, antialias=True)
                objects.append(CutObject(cut, label))
        if len(objects) >= MAX_OBJECTS:
            break
    return objects


class PasteObjects:
    """Paste up to ``most`` objects, each scaled by up to ``jitter`` either way, perhaps mirrored.

    quarter_turns: also rotate them by 90, 180 or 270 degrees. An object for which no free place is
    found is left out. Maps ``(uint8 Image (3, H, W), Target)`` to the same.
    """

    def __init__(
        self, objects: Sequence[CutObject], most: int, jitter: float, quarter_turns: bool
    ) -> None:
        self.objects, self.most = objects, most
        self.jitter, self.quarter_turns = jitter, quarter_turns

    def __call__(self, image: Tensor, target: Target) -> tuple[Tensor, Target]:
        boxes = target["boxes"].as_subclass(Tensor)
        pixels = image.as_subclass(Tensor).clone()
        pasted: list[list[float]] = []
        labels: list[int] = []
        for _ in range(int(torch.randint(self.most + 1, ()))):
            chosen = self.objects[int(torch.randint(len(self.objects), ()))]
            view = self._view(chosen.image)
            place = _free_place(view, pixels, torch.cat([boxes, torch.tensor(pasted).view(-1, 4)]))
            if place is not None:
                x, y = place
                height, width = view.shape[-2:]
                there = pixels[:, y : y + height, x : x + width]
                there.copy_(_blend(there, view))
                pasted.append([float(v) for v in (x, y, x + width, y + height)])
                labels.append(chosen.label)
        if not pasted:
            return image, target
        size = (pixels.shape[-2], pixels.shape[-1])
        both = torch.cat([boxes, torch.tensor(pasted)])
        new = torch.tensor(labels, dtype=torch.int64)
        return tv_tensors.Image(pixels), Target(
            boxes=tv_tensors.BoundingBoxes(both, format="XYXY", canvas_size=size),
            labels=torch.cat([target["labels"], new]),
            difficult=torch.cat([target["difficult"], torch.zeros(len(new), dtype=torch.bool)]),
            image_id=target["image_id"],
        )

    def _view(self, image: Tensor) -> Tensor:
        scale = self.jitter ** float(torch.rand(()) * 2 - 1)
        size = [max(4, round(side * scale)) for side in image.shape[-2:]]
        view = F.resize(image, size, antialias=True)
        if torch.rand(()) < 0.5:
            view = view.flip(-1)
        return view.rot90(int(torch.randint(4, ())), (1, 2)) if self.quarter_turns else view


def _free_place(view: Tensor, canvas: Tensor, boxes: Tensor) -> tuple[int, int] | None:
    """Left and top of a place that touches no box, or None."""
    height, width = view.shape[-2:]
    rows, columns = canvas.shape[-2] - height, canvas.shape[-1] - width
    if rows < 0 or columns < 0:
        return None
    for _ in range(TRIES):
        x, y = int(torch.randint(columns + 1, ())), int(torch.randint(rows + 1, ()))
        if not len(boxes):
            return x, y
        place = torch.tensor([x, y, x + width, y + height])
        shared = torch.minimum(boxes[:, 2:], place[2:]) - torch.maximum(boxes[:, :2], place[:2])
        if not (shared > 0).all(dim=1).any():
            return x, y
    return None


def _blend(there: Tensor, view: Tensor) -> Tensor:
    ramps = [
        torch.arange(1, n + 1).minimum(torch.arange(n, 0, -1)).clamp(max=FEATHER + 1)
        for n in view.shape[-2:]
    ]
    share = torch.minimum(ramps[0][:, None], ramps[1][None]) / (FEATHER + 1)
    return (there + (view.float() - there) * share).round().to(there.dtype)
