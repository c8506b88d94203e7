"""Boxes as plain arrays: their overlap and COCO's way of writing them."""

from __future__ import annotations

import numpy as np


def iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of each pair: float64 (M, N) in 0..1.

    boxes: (M, 4), others: (N, 4), xyxy, in pixels of the same image. 0 for two without area.
    """
    common, areas, other_areas = _common(boxes, others)
    union = areas + other_areas - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def share_inside(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Of each box the share of its area that lies in each region: float64 (M, N) in 0..1.

    boxes: (M, 4), regions: (N, 4), xyxy, in pixels of the same image. 0 for a box without area.
    """
    common, areas, _ = _common(boxes, regions)
    return np.divide(common, areas, out=np.zeros_like(common), where=areas > 0)


def to_xywh(boxes: np.ndarray) -> np.ndarray:
    """(N, 4) xyxy to COCO's xywh, float64."""
    corners = _corners(boxes)
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)


def _common(boxes: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The area that each pair has in common, (M, N), and the areas of both, (M, 1) and (N,)."""
    a, b = _corners(boxes)[:, None], _corners(others)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    areas = [(x[..., 2:] - x[..., :2]).prod(axis=-1) for x in (a, b)]
    return sides.clip(min=0).prod(axis=-1), areas[0], areas[1]


def _corners(boxes: np.ndarray) -> np.ndarray:
    return boxes.reshape(-1, 4).astype(np.float64)
