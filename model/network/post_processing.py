"""From the head's outputs to detections, for all images of a batch at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import batched_nms, nms

# One call suppresses the duplicates of all images up to here; its work grows with the square.
CANDIDATES_A_CALL = 5000


@dataclass(frozen=True)
class PostProcessing:
    """RetinaNet's: the best candidates of each level, decoded, without duplicates of a class.

    score_thresh: scores must exceed it. nms_thresh: IoU of duplicates. candidates: kept a level.
    detections: kept an image. Lin et al., https://arxiv.org/abs/1708.02002, section 4.1.
    """

    score_thresh: float
    nms_thresh: float
    candidates: int
    detections: int
    box_coder: BoxCoder

    def __call__(
        self,
        logits: Sequence[Tensor],
        offsets: Sequence[Tensor],
        anchors: Sequence[Tensor],
        sizes: Sequence[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """logits: (B, A, K) a level. offsets: (B, A, 4) a level. anchors: (A, 4) a level, xyxy.

        sizes: (height, width) of each image, to which boxes are clipped. Returns ``boxes`` (M, 4)
        xyxy, ``scores`` and ``labels`` (M,) of each image, the best first.
        """
        levels = zip(logits, offsets, anchors, strict=True)
        parts = [self._best(*level) for level in levels]
        ranks, labels, boxes = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        limits = boxes.new_tensor([[width, height] * 2 for height, width in sizes])
        boxes = boxes.clamp(min=0).minimum(limits[:, None])
        images, rows = (ranks.sigmoid() > self.score_thresh).nonzero(as_tuple=True)
        boxes, ranks, labels = boxes[images, rows], ranks[images, rows], labels[images, rows]
        counts = torch.bincount(images, minlength=len(sizes)).tolist()
        kept = self._without_duplicates(boxes, ranks, labels, images, counts)
        return [
            {"boxes": boxes[rows], "scores": ranks[rows].sigmoid(), "labels": labels[rows]}
            for rows in kept
        ]

    def _best(
        self, logits: Tensor, offsets: Tensor, anchors: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (B, n), labels (B, n) and boxes (B, n, 4) of a level, as many for each image.

        Logits rank where scores no longer do, which all round to 1.
        """
        batch, count, classes = logits.shape
        best = min(self.candidates, count * classes)
        values, places = logits.flatten(1).topk(best)
        rows = places.div(classes, rounding_mode="floor")
        moves = offsets.gather(1, rows[..., None].expand(-1, -1, 4))
        boxes = self.box_coder.decode_single(moves.flatten(0, 1), anchors[rows.flatten()])
        return values, places % classes, boxes.view(batch, best, 4)

    def _without_duplicates(
        self, boxes: Tensor, ranks: Tensor, labels: Tensor, images: Tensor, counts: list[int]
    ) -> list[Tensor]:
        """Rows of each image's detections, the best first. counts: candidates an image."""
        if len(boxes) > CANDIDATES_A_CALL:
            found, start = [], 0
            for count in counts:
                rows = slice(start, start + count)
                kept = batched_nms(boxes[rows], ranks[rows], labels[rows], self.nms_thresh)
                found.append(kept[: self.detections] + start)
                start += count
            return found
        # Boxes of different images or classes are moved apart; float32 would lose their fractions.
        apart = images * (int(labels.max()) + 1) + labels if len(labels) else labels
        side = boxes.max().double() + 1 if len(boxes) else 1
        kept = nms(boxes.double() + (apart * side)[:, None], ranks.double(), self.nms_thresh)
        return [kept[images[kept] == image][: self.detections] for image in range(len(counts))]
