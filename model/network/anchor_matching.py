"""Which object each anchor is matched to, for a whole batch at once.

The rule of Faster R-CNN, Ren et al., https://arxiv.org/abs/1506.01497, with RetinaNet's thresholds.
It never waits for a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

BACKGROUND, IGNORED = -1, -2
OVERLAPS_AT_ONCE = 1 << 26  # pairs of object and anchor; 270 MB as float32, needed a few times


class Objects(NamedTuple):
    """The objects of a batch, padded to one number of rows per image, at least one.

    boxes: float32 (B, N, 4), xyxy, pixels. labels: int64 (B, N), -1 in padding rows.
    """

    boxes: Tensor
    labels: Tensor

    @classmethod
    def of(cls, targets: Sequence[dict[str, Any]]) -> Objects:
        """targets: ``boxes`` (N, 4) and ``labels`` (N,) of each image; N may be 0."""
        boxes = [t["boxes"].as_subclass(Tensor).reshape(-1, 4).float() for t in targets]
        labels = [t["labels"] for t in targets]
        # One padding row in every image, so that none may have any object.
        padding_box = boxes[0].new_ones(1, 4).cumsum(dim=1)
        padding_label = labels[0].new_full((1,), -1)
        padded_boxes = [torch.cat([rows, padding_box]) for rows in boxes]
        padded_labels = [torch.cat([rows, padding_label]) for rows in labels]
        return cls(
            pad_sequence(padded_boxes, batch_first=True),
            pad_sequence(padded_labels, batch_first=True, padding_value=-1),
        )


def match(objects: Objects, anchors: Tensor, high: float, low: float) -> Tensor:
    """anchors: (A, 4), xyxy. Returns int64 (B, A): a row of ``objects``, or one of the constants.

    An anchor is matched to the object that it overlaps most if their IoU is at least ``high``, or
    if no anchor overlaps that object more. Any other anchor is background if that IoU is below
    ``low``, else it is ignored.
    """
    boxes, labels = objects
    at_once = max(1, OVERLAPS_AT_ONCE // (boxes.shape[1] * max(1, len(anchors))))
    parts = zip(boxes.split(at_once), labels.split(at_once), strict=True)
    return torch.cat([_match(Objects(*part), anchors, high, low) for part in parts])


def _match(objects: Objects, anchors: Tensor, high: float, low: float) -> Tensor:
    overlap = _iou(objects.boxes, anchors)
    overlap.masked_fill_((objects.labels < 0)[..., None], -1)
    best, rows = overlap.max(dim=1)
    matches = rows.masked_fill(best < high, IGNORED).masked_fill_(best < low, BACKGROUND)
    # The overlap of a padding row, -1, equals no maximum.
    best_of_object = overlap.amax(dim=2, keepdim=True).clamp(min=0)
    return torch.where((overlap == best_of_object).any(dim=1), rows, matches)


def _iou(boxes: Tensor, anchors: Tensor) -> Tensor:
    """boxes: (B, N, 4). anchors: (A, 4). Returns (B, N, A), the largest tensor: few copies."""
    left, top, right, bottom = (side[..., None] for side in boxes.unbind(-1))
    x1, y1, x2, y2 = anchors.unbind(-1)
    shared = (torch.minimum(right, x2) - torch.maximum(left, x1)).clamp_(min=0)
    shared *= (torch.minimum(bottom, y2) - torch.maximum(top, y1)).clamp_(min=0)
    areas = (right - left) * (bottom - top) + (x2 - x1) * (y2 - y1)
    return shared / (areas - shared)
