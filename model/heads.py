"""RetinaNet's head as it is trained."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.models.detection.retinanet import RetinaNetHead

from model.winograd import as_rows, trainable_convolution


class Float32Head(RetinaNetHead):
    """Torchvision's head; its outputs leave in float32, whatever autocast computed them in.

    Losses, box decoding and the ranking of scores need more than bfloat16's eight bits. In float32
    on a CPU the towers run over all levels at once and with fewer multiplications.
    """

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        """x: (B, C, H, W) of each level. Returns ``cls_logits`` (B, anchors, classes) and
        ``bbox_regression`` (B, anchors, 4).
        """
        if x[0].device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
            return self._with_fewer_multiplications(x)
        return {name: output.float() for name, output in super().forward(x).items()}

    def _with_fewer_multiplications(self, x: list[Tensor]) -> dict[str, Tensor]:
        rows, tiles = as_rows(x)
        scores, boxes = self.classification_head, self.regression_head
        towers = {
            "cls_logits": (scores.conv, scores.cls_logits, scores.num_classes),
            "bbox_regression": (boxes.conv, boxes.bbox_reg, 4),
        }
        outputs = {}
        for name, (layers, last, width) in towers.items():
            y = rows
            for convolution, _ in layers:
                y = trainable_convolution(y, tiles, convolution).relu_()
            y = trainable_convolution(y, tiles, last)
            outputs[name] = y[:-1].view(len(x[0]), -1, width)
        return outputs
