"""From the head's outputs to detections, for all images of a batch at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import batched_nms, nms

# Up to this many, one NMS call serves all images of a batch; its cost grows with the square.
CANDIDATES_PER_CALL = 5000
Levels = Sequence[Tensor]


@dataclass(frozen=True)
class PostProcessing:
    """RetinaNet's: the highest-scoring candidates of each level, decoded, then NMS per class.

    score_thresh: scores must exceed it. nms_thresh: IoU of duplicates. candidates: kept per
    level. detections: kept per image. Lin et al., https://arxiv.org/abs/1708.02002, section 4.1.
    """

    score_thresh: float
    nms_thresh: float
    candidates: int
    detections: int
    box_coder: BoxCoder

    def __call__(
        self, logits: Levels, offsets: Levels, anchors: Levels, sizes: Sequence[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """Of each level, logits: (B, A, K). offsets: (B, A, 4). anchors: (A, 4), xyxy.

        sizes: (height, width) of each image, to which boxes are clipped. Returns ``boxes`` (M, 4)
        xyxy, ``scores`` and ``labels`` (M,) of each image, the highest-scoring first.
        """
        levels = zip(logits, offsets, anchors, strict=True)
        parts = [self._highest_scoring(*level) for level in levels]
        ranks, labels, boxes = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        limits = boxes.new_tensor([[width, height] * 2 for height, width in sizes])
        boxes = boxes.clamp(min=0).minimum(limits[:, None])
        images, rows = (ranks.sigmoid() > self.score_thresh).nonzero(as_tuple=True)
        boxes, ranks, labels = boxes[images, rows], ranks[images, rows], labels[images, rows]
        counts = torch.bincount(images, minlength=len(sizes)).tolist()
        kept = self._nms(boxes, ranks, labels, images, counts)
        return [
            {"boxes": boxes[rows], "scores": ranks[rows].sigmoid(), "labels": labels[rows]}
            for rows in kept
        ]

    def _highest_scoring(
        self, logits: Tensor, offsets: Tensor, anchors: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (B, n), labels (B, n) and boxes (B, n, 4) of a level, equally many per image.

        Logits still have an order where scores all round to 1.
        """
        batch, count, classes = logits.shape
        kept = min(self.candidates, count * classes)
        values, indices = logits.flatten(1).topk(kept)
        rows = indices.div(classes, rounding_mode="floor")
        selected = offsets.gather(1, rows[..., None].expand(-1, -1, 4))
        boxes = self.box_coder.decode_single(selected.flatten(0, 1), anchors[rows.flatten()])
        return values, indices % classes, boxes.view(batch, kept, 4)

    def _nms(
        self, boxes: Tensor, ranks: Tensor, labels: Tensor, images: Tensor, counts: list[int]
    ) -> list[Tensor]:
        """Rows of each image's detections, highest-scoring first. counts: candidates per image."""
        if len(boxes) > CANDIDATES_PER_CALL:
            per_image, start = [], 0
            for count in counts:
                rows = slice(start, start + count)
                kept = batched_nms(boxes[rows], ranks[rows], labels[rows], self.nms_thresh)
                per_image.append(kept[: self.detections] + start)
                start += count
            return per_image
        # Boxes of different images or classes are shifted so that they do not overlap; in float32
        # they would lose the fractions of pixels.
        group = images * (int(labels.max()) + 1) + labels if len(labels) else labels
        side = boxes.max().double() + 1 if len(boxes) else 1
        kept = nms(boxes.double() + (group * side)[:, None], ranks.double(), self.nms_thresh)
        return [kept[images[kept] == image][: self.detections] for image in range(len(counts))]
