"""RetinaNet's head for inference: boxes only where a detection can come from."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torchvision.models.detection.retinanet import RetinaNetHead

from model.cpu.tiles import Tiles, as_rows
from model.cpu.tower import Tower
from model.cpu.winograd_conv2d import replaceable


class CandidateHead(nn.Module):
    """Computes what torchvision's head computes, with less work.

    Both towers run over all levels at once. A location of which no class reaches the threshold
    gives no detection, whatever its box: the box tower is evaluated only around the others, on
    pictures with a few objects close to nowhere. What it needs grows by one location a layer.

    head: whose weights are taken over. tower: how to convolve with them. score_thresh: of the model
    that uses it; None for every box.
    """

    def __init__(self, head: RetinaNetHead, tower: type[Tower], score_thresh: float | None) -> None:
        super().__init__()
        scores, boxes = head.classification_head, head.regression_head
        self.num_classes = scores.num_classes
        # Rounding must not lose a candidate, and one too many costs nothing.
        self.cut = None if score_thresh is None else _logit(score_thresh) - 1e-3
        self.score_tower = tower([*(layer[0] for layer in scores.conv), scores.cls_logits])
        self.box_tower = tower([*(layer[0] for layer in boxes.conv), boxes.bbox_reg])

    def forward(self, features: list[Tensor]) -> dict[str, Tensor]:
        """features: (B, C, H, W) each.

        Returns ``cls_logits`` (B, anchors, classes) and ``bbox_regression`` (B, anchors, 4), both
        float32; the latter is zero at locations where no class reaches the threshold.
        """
        batch = len(features[0])
        rows, tiles = as_rows([x.to(self.score_tower.dtype) for x in features])
        logits = self.score_tower(rows, [tiles] * self.score_tower.layers)
        boxes = self.box_tower(rows, self._needed(logits, tiles))
        return {
            "cls_logits": logits[:-1].view(batch, -1, self.num_classes),
            "bbox_regression": boxes[:-1].view(batch, -1, 4),
        }

    def _needed(self, logits: Tensor, tiles: Tiles) -> list[Tiles]:
        """What each layer of the box tower has to compute."""
        if self.cut is None:
            return [tiles] * self.box_tower.layers
        return tiles.leading_to((logits > self.cut).any(dim=1), self.box_tower.layers - 1)


def _logit(probability: float) -> float:
    if not 0 < probability < 1:
        return math.inf if probability > 0 else -math.inf
    return math.log(probability / (1 - probability))


def has_plain_towers(head: nn.Module) -> bool:
    """Whether the head is torchvision's with convolutions and ReLUs alone, without norms."""
    if not isinstance(head, RetinaNetHead):
        return False
    towers = (head.classification_head.conv, head.regression_head.conv)
    return all(
        len(layer) == 2 and replaceable(layer[0]) and isinstance(layer[1], nn.ReLU)
        for tower in towers
        for layer in tower
    )
