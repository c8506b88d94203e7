"""At which scale a detector sees its images: so that typical objects have a size it learns well.

The size is that of the playing cards in the runs of docs/accuracy.md, which trained at 256 pixels.
Twice the scale has four times the pixels.
"""

from __future__ import annotations

from typing import NamedTuple

from data.crops import typical_side
from data.dataset import Dataset
from model.efficient_retinanet import LEVELS
from model.network.resnet_retinanet import ANCHOR_SIZES

TYPICAL_OBJECT = 82  # pixels of the longer side
IMAGE_SIZES = (256, 640)  # smallest and largest that is chosen
ANCHOR_SCALES = (0.125, 2.0)
WINDOW = 0.625  # share of the image's size
SMALLEST_WINDOW = 64  # batch norm needs more than one location, also of one image at stride 32


class ObjectScale(NamedTuple):
    """image_size: pixels of the longer side. typical: of the median object at that size."""

    image_size: int
    anchor_scale: float
    typical: float

    def __str__(self) -> str:
        return (
            f"images of {self.image_size} px, in which the median object is {self.typical:.0f} px "
            f"long; anchors times {self.anchor_scale:g}"
        )


def choose_scale(
    dataset: Dataset, model_name: str, image_size: int | None, anchor_scale: float | None
) -> ObjectScale:
    """For what is None: the image size from the objects, and anchors of stride 16 that fit them."""
    if image_size is None:
        fitting = TYPICAL_OBJECT / typical_side(dataset, 1)
        smallest, largest = IMAGE_SIZES
        image_size = min(max(32 * round(fitting / 32), smallest), largest)
    typical = typical_side(dataset, image_size)
    if anchor_scale is None:
        # Of three scales, 1 to 1.59 times the base size, the middle one.
        anchor = ANCHOR_SIZES[1][1] if model_name == "resnet50" else 1.26 * LEVELS[1].anchor_size
        least, most = ANCHOR_SCALES
        anchor_scale = min(max(round(8 * typical / anchor) / 8, least), most)
    return ObjectScale(image_size, anchor_scale, typical)


def choose_window(window: int | None, image_size: int) -> int:
    """Pixels of the windows to train on, by default the share ``WINDOW``; 0 for whole images."""
    if window is not None:
        return window
    return max(SMALLEST_WINDOW, 32 * round(WINDOW * image_size / 32))
