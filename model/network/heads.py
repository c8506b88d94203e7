"""RetinaNet's head as it is trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.retinanet import RetinaNetHead

from model.cpu.switch import cpu_kernels_apply
from model.cpu.tiles import Tiles, as_rows
from model.cpu.trainable_tower import trainable_tower


class Float32Head(RetinaNetHead):
    """Torchvision's head; its outputs leave in float32, whatever autocast computed them in.

    Losses, box decoding and the ranking of scores need more than bfloat16's eight bits. In float32
    on a CPU the towers run over all levels at once and with fewer multiplications.
    """

    def forward(self, x: list[Tensor], boxes_of: Tensor | None = None) -> dict[str, Tensor]:
        """x: (B, C, H, W) of each level. boxes_of: bool (B, anchors), the only ones whose boxes
        will be looked at; others may be anything then.

        Returns ``cls_logits`` (B, anchors, classes) and ``bbox_regression`` (B, anchors, 4).
        """
        if cpu_kernels_apply(x[0]):
            return self._with_fewer_multiplications(x, boxes_of)
        return {
            name: output.to(torch.promote_types(output.dtype, torch.float32))
            for name, output in super().forward(x).items()
        }

    def _with_fewer_multiplications(
        self, x: list[Tensor], boxes_of: Tensor | None
    ) -> dict[str, Tensor]:
        rows, tiles = as_rows(x)
        scores, boxes = self.classification_head, self.regression_head
        layers = len(scores.conv) + 1
        whole = [tiles] * (layers + 1)
        needed = whole if boxes_of is None else self._around(boxes_of, tiles, layers)
        logits = _tower(rows, whole, scores.conv, scores.cls_logits)
        offsets = _tower(rows, needed, boxes.conv, boxes.bbox_reg)
        return {
            "cls_logits": logits.view(len(x[0]), -1, scores.num_classes),
            "bbox_regression": offsets.view(len(x[0]), -1, 4),
        }

    def _around(self, boxes_of: Tensor, tiles: Tiles, layers: int) -> list[Tiles]:
        """What the box tower computes. A gradient goes the same way back."""
        anchors = self.regression_head.bbox_reg.out_channels // 4
        wanted = boxes_of.view(-1, anchors).any(dim=1)
        return tiles.leading_to(torch.cat([wanted, wanted.new_zeros(1)]), layers)


def _tower(rows: Tensor, needed: list[Tiles], layers: Any, last: Any) -> Tensor:
    return trainable_tower(rows, needed, [*(layer[0] for layer in layers), last])[:-1]
