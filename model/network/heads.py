"""RetinaNet's head as it is trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.retinanet import RetinaNetHead

from model.cpu.switch import cpu_kernels_apply
from model.cpu.tiles import Tiles, as_rows
from model.cpu.trainable_tower import trainable_tower


class Float32Head(RetinaNetHead):
    """Torchvision's head; its outputs leave in float32, whatever autocast computed them in.

    Losses, box decoding and the ranking of scores need more than bfloat16's eight bits. In float32
    on a CPU the towers run over all levels at once and with fewer multiplications.

    Its towers start from He et al.'s weights, https://arxiv.org/abs/1502.01852. Torchvision's
    have a deviation of 0.01 and leave a 75th of a signal after four layers; a short training spends
    most of its steps on that, see docs/accuracy.md.
    """

    def __init__(self, in_channels: int, num_anchors: int, num_classes: int) -> None:
        super().__init__(in_channels, num_anchors, num_classes)
        for head in (self.classification_head, self.regression_head):
            for layer in head.conv:
                nn.init.kaiming_normal_(layer[0].weight, nonlinearity="relu")

    def forward(self, x: list[Tensor], anchors_with_box: Tensor | None = None) -> dict[str, Tensor]:
        """x: (B, C, H, W) of each level. anchors_with_box: bool (B, anchors), the only anchors
        whose box regression is used; that of others may be anything.

        Returns ``cls_logits`` (B, anchors, classes) and ``bbox_regression`` (B, anchors, 4).
        """
        if cpu_kernels_apply(x[0]):
            return self._with_fewer_multiplications(x, anchors_with_box)
        return {
            name: output.to(torch.promote_types(output.dtype, torch.float32))
            for name, output in super().forward(x).items()
        }

    def _with_fewer_multiplications(
        self, x: list[Tensor], anchors_with_box: Tensor | None
    ) -> dict[str, Tensor]:
        rows, tiles = as_rows(x)
        scores, boxes = self.classification_head, self.regression_head
        layers = len(scores.conv) + 1
        needed = everywhere = [tiles] * (layers + 1)
        if anchors_with_box is not None:
            per_location = boxes.bbox_reg.out_channels // 4
            locations = anchors_with_box.view(-1, per_location).any(dim=1)
            padded = torch.cat([locations, locations.new_zeros(1)])
            needed = tiles.leading_to(padded, layers)
        logits = _tower(rows, everywhere, scores.conv, scores.cls_logits)
        offsets = _tower(rows, needed, boxes.conv, boxes.bbox_reg)
        return {
            "cls_logits": logits.view(len(x[0]), -1, scores.num_classes),
            "bbox_regression": offsets.view(len(x[0]), -1, 4),
        }


def _tower(rows: Tensor, needed: list[Tiles], layers: Any, last: Any) -> Tensor:
    return trainable_tower(rows, needed, [*(layer[0] for layer in layers), last])[:-1]


class Float32Layer(nn.Module):
    """A layer that computes in float32 under autocast too.

    Of scores in bfloat16, with its eight bits, many are equal and have no order.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return self.layer(x.float())
