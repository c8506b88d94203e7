"""The training transform, once, for all data sets. Evaluation sees the pictures as they are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from data.dataset import Target

SCALE_RANGE = (0.6, 1.4)
# A box that kept less than this share of its area in a crop is no longer a fair example.
MIN_VISIBLE = 0.4
MIN_SIDE = 2.0  # pixels
FILL = (124, 116, 104)  # ImageNet's mean colour: about zero once normalised


class TrainingTransform:
    """Random scale, crop, mirror, light and colour onto a canvas of ``image_size`` pixels square.

    quarter_turns: also turn by 90, 180 or 270 degrees, for objects seen from above. Other angles
    are left out: the envelope of a turned box is no longer tight around its object.
    Maps ``(uint8 Image (3, H, W), Target)`` to the same; N may become 0.
    """

    def __init__(self, image_size: int, *, quarter_turns: bool = False) -> None:
        self.geometry = v2.Compose(
            [
                # Large-scale jitter, https://arxiv.org/abs/2012.07177, narrowed for few pictures.
                ScaleJitter((image_size, image_size), SCALE_RANGE, antialias=True),
                RandomCanvas(image_size),
                v2.RandomHorizontalFlip(),
                RandomQuarterTurn() if quarter_turns else v2.Identity(),
                v2.SanitizeBoundingBoxes(min_size=MIN_SIDE, labels_getter=_rows_of_boxes),
            ]
        )
        self.light = v2.RandomApply(
            [v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.02)], p=0.8
        )

    def __call__(self, image: Tensor, target: Target) -> tuple[Tensor, Target]:
        image, target = self.geometry(tv_tensors.Image(image), target)
        return self.light(image).as_subclass(Tensor), target


class ScaleJitter(v2.ScaleJitter):
    """torchvision's, but a very thin picture keeps a pixel of its shorter side."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        params = super().make_params(flat_inputs)
        return {"size": tuple(max(1, length) for length in params["size"])}


class RandomCanvas(v2.Transform):
    """Place the picture at random on a square canvas: crop what is larger, fill what is smaller.

    A box of which the canvas shows less than ``MIN_VISIBLE`` is removed with all that belongs to
    it; the others are clipped.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, image: Tensor, target: Target) -> tuple[Tensor, Target]:
        height, width = image.shape[-2:]
        x, y = self._shift(width), self._shift(height)
        colour = torch.tensor(FILL, dtype=image.dtype)
        canvas = colour[:, None, None].repeat(1, self.size, self.size)
        canvas[:, max(y, 0) : y + height, max(x, 0) : x + width] = image[
            :, max(-y, 0) : self.size - y, max(-x, 0) : self.size - x
        ]
        moved = target["boxes"].as_subclass(Tensor) + torch.tensor([x, y, x, y])
        clipped = moved.clamp(0, self.size)
        kept = _area(clipped) >= MIN_VISIBLE * _area(moved)
        return tv_tensors.Image(canvas), Target(
            boxes=tv_tensors.BoundingBoxes(
                clipped[kept], format="XYXY", canvas_size=(self.size, self.size)
            ),
            labels=target["labels"][kept],
            difficult=target["difficult"][kept],
            image_id=target["image_id"],
        )

    def _shift(self, length: int) -> int:
        """Where the picture's first row or column comes to lie; negative when it is cropped."""
        slack = self.size - length
        return int(torch.randint(min(slack, 0), max(slack, 0) + 1, ()))


class RandomQuarterTurn(v2.Transform):
    """Turn a square picture by 0, 90, 180 or 270 degrees, each as likely."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {"turns": int(torch.randint(4, ()))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return F.rotate(inpt, 90.0 * params["turns"])


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _rows_of_boxes(inputs: Any) -> tuple[Tensor, Tensor]:
    """Labels and flags, which go when their box goes."""
    target = inputs[1]
    return target["labels"], target["difficult"]
