"""Which object each anchor stands for, for a whole batch at once.

The rule of Faster R-CNN, Ren et al., https://arxiv.org/abs/1506.01497, with RetinaNet's thresholds.
Nothing here waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

BACKGROUND, IGNORED = -1, -2
OVERLAPS_AT_ONCE = 1 << 26  # of objects and anchors; as float32 they take 270 MB, a few times over


class Objects(NamedTuple):
    """The objects of a batch, as many rows an image as the fullest has; at least one.

    boxes: float32 (B, N, 4), xyxy, pixels. labels: int64 (B, N); -1 fills the rows that are none.
    """

    boxes: Tensor
    labels: Tensor

    @classmethod
    def of(cls, targets: Sequence[dict[str, Any]]) -> Objects:
        """targets: ``boxes`` (N, 4) and ``labels`` (N,) of each image; N may be 0."""
        boxes = [t["boxes"].as_subclass(Tensor).reshape(-1, 4).float() for t in targets]
        labels = [t["labels"] for t in targets]
        # One row more than the fullest has, which is nobody's, lets all of them be empty.
        nobody = boxes[0].new_ones(1, 4).cumsum(dim=1), labels[0].new_full((1,), -1)
        padded_boxes = pad_sequence([torch.cat([b, nobody[0]]) for b in boxes], batch_first=True)
        padded_labels = pad_sequence(
            [torch.cat([rows, nobody[1]]) for rows in labels], batch_first=True, padding_value=-1
        )
        return cls(padded_boxes, padded_labels)


def match(objects: Objects, anchors: Tensor, high: float, low: float) -> Tensor:
    """anchors: (A, 4), xyxy. Returns int64 (B, A): a row of ``objects``, or one of the constants.

    An anchor stands for the object that it overlaps most: from an IoU of ``high`` on; or, whatever
    their IoU, if no anchor overlaps that object more. Below ``low`` it is background, and what
    lies between counts neither way.
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
    # A row that is nobody's is best nowhere.
    best_of_object = overlap.amax(dim=2, keepdim=True).clamp(min=0)
    return torch.where((overlap == best_of_object).any(dim=1), rows, matches)


def _iou(boxes: Tensor, anchors: Tensor) -> Tensor:
    """boxes: (B, N, 4). anchors: (A, 4). Returns (B, N, A); with few copies, it is the largest."""
    left, top, right, bottom = (side[..., None] for side in boxes.unbind(-1))
    x1, y1, x2, y2 = anchors.unbind(-1)
    shared = (torch.minimum(right, x2) - torch.maximum(left, x1)).clamp_(min=0)
    shared *= (torch.minimum(bottom, y2) - torch.maximum(top, y1)).clamp_(min=0)
    areas = (right - left) * (bottom - top) + (x2 - x1) * (y2 - y1)
    return shared / (areas - shared)
