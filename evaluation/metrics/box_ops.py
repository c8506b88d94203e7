"""Boxes as plain arrays: their overlap and COCO's way of writing them."""

from __future__ import annotations

import numpy as np


def iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of every pair: float64 (M, N) in 0..1.

    boxes: (M, 4), others: (N, 4), xyxy, in pixels of the same image. 0 for two without area.
    """
    return overlap(to_xywh(boxes)[:, None], to_xywh(others))


def share_inside(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """The share of each box's area that lies in each region: float64 (M, N) in 0..1.

    boxes: (M, 4), regions: (N, 4), xyxy, in pixels of the same image. 0 for a box without area.
    """
    return overlap(to_xywh(boxes)[:, None], to_xywh(regions), crowd=True)


def overlap(boxes: np.ndarray, others: np.ndarray, crowd: np.ndarray | bool = False) -> np.ndarray:
    """IoU of boxes and others, or the share of the box inside the other one where that is a crowd.

    boxes, others: (..., 4) xywh; crowd: (...), of the others. All shapes are broadcast. The result,
    float64, is rounded as in pycocotools' ``bbIou``.
    """
    (x, y, w, h), (u, v, p, q) = np.moveaxis(boxes, -1, 0), np.moveaxis(others, -1, 0)
    width = np.minimum(w + x, p + u) - np.maximum(x, u)
    height = np.minimum(h + y, q + v) - np.maximum(y, v)
    common, area = width * height, w * h
    union = np.where(crowd, area, area + p * q - common)
    touching = (width > 0) & (height > 0)
    return np.divide(common, union, out=np.zeros_like(common), where=touching)


def to_xywh(boxes: np.ndarray) -> np.ndarray:
    """(N, 4) xyxy to COCO's xywh, float64."""
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
