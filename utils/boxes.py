"""Boxes as plain arrays: their overlap and COCO's way of writing them."""

from __future__ import annotations

import numpy as np


def iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of each pair: float64 (M, N) in 0..1.

    boxes: (M, 4), others: (N, 4), xyxy, in pixels of the same image. 0 for two without area.
    """
    a, b = _corners(boxes)[:, None], _corners(others)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = sides.clip(min=0).prod(axis=-1)
    areas = [(x[..., 2:] - x[..., :2]).prod(axis=-1) for x in (a, b)]
    union = areas[0] + areas[1] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def to_xywh(boxes: np.ndarray) -> np.ndarray:
    """(N, 4) xyxy to COCO's xywh, float64."""
    corners = _corners(boxes)
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)


def _corners(boxes: np.ndarray) -> np.ndarray:
    return boxes.reshape(-1, 4).astype(np.float64)
