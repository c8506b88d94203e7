"""The training transform, once, for all data sets. Evaluation sees the images as they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.ops import box_area
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F
from torchvision.transforms.v2 import query_size

from data.copy_paste import PasteObjects, cut_objects
from data.dataset import Dataset, Target

# A box that kept less than this share of its area in a crop is no longer a fair example.
MIN_VISIBLE = 0.4
MIN_SIDE = 2.0  # pixels
WINDOWS_AT_OBJECTS = 0.85  # share; the others lie anywhere
FILL = (124, 116, 104)  # ImageNet's mean colour: about zero once normalised


def training_transform(
    dataset: Dataset,
    image_size: int,
    *,
    scale_jitter: float = 1.5,
    quarter_turns: bool = False,
    window: int = 0,
    copy_paste: int = 0,
    seed: int = 0,
) -> TrainingTransform:
    """The transform for a data set whose images are seen with a longer side of ``image_size``.

    copy_paste: how many objects, at most, are pasted into an image; 0 for none. seed: of the choice
    of these objects. For the rest see ``TrainingTransform``.
    """
    sizes = (annotation.size for annotation in dataset.annotations)
    canvas = training_canvas(sizes, image_size, square=quarter_turns)
    paste = None
    if copy_paste and (objects := cut_objects(dataset, image_size, seed)):
        paste = PasteObjects(objects, copy_paste, scale_jitter, quarter_turns)
    return TrainingTransform(
        canvas,
        scale_jitter=scale_jitter,
        quarter_turns=quarter_turns,
        window=window,
        paste=paste,
    )


def training_canvas(
    sizes: Iterable[tuple[int, int] | None], image_size: int, *, square: bool = False
) -> tuple[int, int]:
    """The smallest canvas, (height, width), on which every image fits at ``image_size``.

    sizes: (width, height) of the images, None where it is not known. image_size: pixels of the
    longer side. Landscapes alone get a landscape: on a square, a quarter of the work would be
    spent on filling. Sides are multiples of 32, the model's coarsest tapped stride.
    """
    known = [size for size in sizes if size is not None and min(size) > 0]
    if square or not known:
        return image_size, image_size
    sides = np.array(known, dtype=float)[:, ::-1]
    needed = (sides / sides.max(axis=1, keepdims=True)).max(axis=0) * image_size
    height, width = (min(image_size, 32 * math.ceil(side / 32)) for side in needed.round(3))
    return height, width


class TrainingTransform:
    """Random scale, crop, mirror, light and colour onto a canvas of one size.

    canvas: (height, width) in pixels, see ``training_canvas``. scale_jitter: the image that just
    fits the canvas is scaled by up to this factor, either way. window: pixels of a smaller, square
    result, cut out mostly around an object; 0 for the whole canvas. paste: a step between geometry
    and light, such as ``PasteObjects``.
    quarter_turns: also rotate by 90, 180 or 270 degrees, for objects seen from above; the canvas
    must be square. Other angles are left out: the envelope of a rotated box is not tight.
    Maps ``(uint8 Image (3, H, W), Target)`` to the same; N may become 0.
    """

    def __init__(
        self,
        canvas: tuple[int, int],
        *,
        scale_jitter: float = 1.5,
        quarter_turns: bool = False,
        window: int = 0,
        paste: Callable[[Tensor, Target], tuple[Tensor, Target]] | None = None,
    ) -> None:
        result = (window, window) if window else canvas
        if quarter_turns and result[0] != result[1]:
            raise ValueError(f"quarter turns need a square canvas, not {canvas}")
        self.geometry = v2.Compose(
            [
                FittingScale(canvas, scale_jitter),
                RandomCanvas(result, at_objects=WINDOWS_AT_OBJECTS if window else 0.0),
                v2.RandomHorizontalFlip(),
                RandomQuarterTurns() if quarter_turns else v2.Identity(),
                v2.SanitizeBoundingBoxes(min_size=MIN_SIDE, labels_getter=_rows_of_boxes),
            ]
        )
        self.paste = paste
        self.light = v2.RandomApply(
            [v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.02)], p=0.8
        )

    def __call__(self, image: Tensor, target: Target) -> tuple[Tensor, Target]:
        image, target = self.geometry(tv_tensors.Image(image), target)
        if self.paste is not None:
            image, target = self.paste(image, target)
        return self.light(image).as_subclass(Tensor), target


class FittingScale(v2.Transform):
    """Scale so that the image just fits the canvas, times a random factor.

    Large-scale jitter, https://arxiv.org/abs/2012.07177, over a narrower range for small data sets;
    the factor is drawn on a logarithmic scale, so that larger and smaller are as likely.
    """

    def __init__(self, canvas: tuple[int, int], jitter: float) -> None:
        super().__init__()
        self.canvas, self.jitter = canvas, jitter

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = query_size(flat_inputs)
        fit = min(self.canvas[0] / height, self.canvas[1] / width)
        scale = fit * self.jitter ** float(torch.rand(()) * 2 - 1)
        # A very thin image keeps a pixel of its shorter side.
        return {"size": [max(1, round(height * scale)), max(1, round(width * scale))]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return self._call_kernel(F.resize, inpt, params["size"], antialias=True)


class RandomCanvas(v2.Transform):
    """Place the image at random on the canvas: crop what is larger, fill what is smaller.

    A box of which the canvas shows less than ``MIN_VISIBLE`` is removed with all that belongs to
    it; the others are clipped. at_objects: how often the place is chosen so that the canvas shows a
    whole object, drawn at random, or as much of it as has room; that object is never removed.
    """

    def __init__(self, canvas: tuple[int, int], at_objects: float = 0.0) -> None:
        super().__init__()
        self.canvas, self.at_objects = canvas, at_objects

    def forward(self, image: Tensor, target: Target) -> tuple[Tensor, Target]:
        height, width = image.shape[-2:]
        rows, columns = self.canvas
        boxes = target["boxes"].as_subclass(Tensor)
        x1 = y1 = x2 = y2 = chosen = None
        if len(boxes) and float(torch.rand(())) < self.at_objects:
            chosen = int(torch.randint(len(boxes), ()))
            x1, y1, x2, y2 = boxes[chosen].tolist()
        x, y = _shift(width, columns, x1, x2), _shift(height, rows, y1, y2)
        canvas = torch.tensor(FILL, dtype=image.dtype)[:, None, None].repeat(1, rows, columns)
        canvas[:, max(y, 0) : y + height, max(x, 0) : x + width] = image[
            :, max(-y, 0) : rows - y, max(-x, 0) : columns - x
        ]
        moved = boxes + torch.tensor([x, y, x, y])
        clipped = moved.clamp(min=0).minimum(torch.tensor([columns, rows, columns, rows]))
        kept = box_area(clipped) >= MIN_VISIBLE * box_area(moved)
        if chosen is not None:
            # It may fill the canvas, which must not be learned as background.
            kept[chosen] = True
        return tv_tensors.Image(canvas), Target(
            boxes=tv_tensors.BoundingBoxes(clipped[kept], format="XYXY", canvas_size=self.canvas),
            labels=target["labels"][kept],
            difficult=target["difficult"][kept],
            image_id=target["image_id"],
        )


class RandomQuarterTurns(v2.Transform):
    """Rotate a square image by 0, 90, 180 or 270 degrees, each as likely."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {"turns": int(torch.randint(4, ()))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return self._call_kernel(F.rotate, inpt, 90.0 * params["turns"])


def _shift(length: int, room: int, start: float | None = None, end: float | None = None) -> int:
    """Where the image's first row or column comes to lie; negative when it is cropped.

    start, end: of an object that has to be in the room, as far as it fits.
    """
    slack = room - length
    low, high = min(slack, 0), max(slack, 0)
    if start is not None and end is not None:
        first, last = sorted((-math.floor(start), room - math.ceil(end)))
        # Whatever lies outside the room for the image would show nothing but filling.
        low, high = min(max(low, first), high), max(min(high, last), low)
    return int(torch.randint(low, high + 1, ()))


def _rows_of_boxes(inputs: Any) -> tuple[Tensor, Tensor]:
    """Labels and flags, which are removed with their box."""
    target = inputs[1]
    return target["labels"], target["difficult"]
