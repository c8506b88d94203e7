"""How well a detector's anchors fit the objects of a data set: plain values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LevelFit:
    """One level of the pyramid.

    stride: pixels from one anchor location to the next, as the model sees an image. sides: of its
    anchors, the square root of the area, in the same pixels, ascending. without_anchor: share of
    all boxes that have no anchor of IoU 0.5 on this level. best_here: share of all boxes whose best
    anchor lies here and has it; of levels alike the finest.
    """

    stride: int
    sides: tuple[float, ...]
    without_anchor: float
    best_here: float


@dataclass(frozen=True)
class AnchorTrial:
    """What other flags would give. without_anchor: share of boxes, over some of the images."""

    image_size: int
    anchor_scale: float
    without_anchor: float


@dataclass(frozen=True)
class AnchorFit:
    """Shares are fractions 0..1 of all boxes, nan without a box.

    without_anchor: no anchor of any level reaches IoU 0.5. It is the sum of too_small (smaller than
    every anchor), too_large (larger than every anchor) and odd_shape (neither: their shape, or
    their place between the anchors). median_side: square root of the area of the median box, in
    pixels as the model sees it. smallest_side, largest_side: those of the anchors. image_size,
    anchor_scale: the flags measured. trials: other flags, measured only where boxes lack an anchor.
    """

    boxes: int
    without_anchor: float
    too_small: float
    too_large: float
    odd_shape: float
    median_side: float
    smallest_side: float
    largest_side: float
    image_size: int
    anchor_scale: float
    levels: tuple[LevelFit, ...]
    trials: tuple[AnchorTrial, ...] = ()
