"""RetinaNet's head for inference: boxes only where a detection can come from."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torchvision.models.detection.retinanet import RetinaNetHead

from model.cpu.tiles import Tiles, as_rows
from model.cpu.tower import Tower


class CandidateHead(nn.Module):
    """Computes what torchvision's head computes, with less work.

    Both towers run over all levels at once. A location at which no class reaches the threshold
    gives no detection, whatever its box is: the box tower is evaluated only around the others, in
    images with a few objects almost nowhere. Each earlier layer needs one location more around.

    head: whose weights are taken over, see ``has_plain_towers``. score_thresh: of the model that
    uses it; None for every box.
    """

    def __init__(self, head: RetinaNetHead, score_thresh: float | None) -> None:
        super().__init__()
        scores, boxes = head.classification_head, head.regression_head
        self.num_classes = scores.num_classes
        # Rounding must not lose a candidate, and one too many costs nothing.
        self.least_logit = None if score_thresh is None else _logit(score_thresh) - 1e-3
        self.score_tower = Tower([*(layer[0] for layer in scores.conv), scores.cls_logits])
        self.box_tower = Tower([*(layer[0] for layer in boxes.conv), boxes.bbox_reg])

    def forward(self, features: list[Tensor]) -> dict[str, Tensor]:
        """features: (B, C, H, W) each.

        Returns ``cls_logits`` (B, anchors, classes) and ``bbox_regression`` (B, anchors, 4), both
        float32; the latter is zero at locations at which no class reaches the threshold.
        """
        batch = len(features[0])
        rows, tiles = as_rows([x.float() for x in features])
        logits = self.score_tower(rows, [tiles] * self.score_tower.depth)
        boxes = self.box_tower(rows, self._needed(logits, tiles))
        return {
            "cls_logits": logits[:-1].view(batch, -1, self.num_classes),
            "bbox_regression": boxes[:-1].view(batch, -1, 4),
        }

    def _needed(self, logits: Tensor, tiles: Tiles) -> list[Tiles]:
        """What each layer of the box tower has to compute."""
        if self.least_logit is None:
            return [tiles] * self.box_tower.depth
        candidates = (logits > self.least_logit).any(dim=1)
        return tiles.leading_to(candidates, self.box_tower.depth - 1)


def _logit(probability: float) -> float:
    if not 0 < probability < 1:
        return math.inf if probability > 0 else -math.inf
    return math.log(probability / (1 - probability))


def has_plain_towers(head: nn.Module) -> bool:
    """Whether the head is torchvision's, of usual 3x3 convolutions and ReLUs, without norms."""
    if not isinstance(head, RetinaNetHead):
        return False
    scores, boxes = head.classification_head, head.regression_head
    towers = [*scores.conv, *boxes.conv]
    return all(
        len(layer) == 2 and isinstance(layer[1], nn.ReLU) and _is_usual(layer[0])
        for layer in towers
    ) and all(_is_usual(last) for last in (scores.cls_logits, boxes.bbox_reg))


def _is_usual(module: nn.Module) -> bool:
    """Whether ``Tower`` computes the same as this module."""
    return (
        type(module) is nn.Conv2d
        and module.kernel_size == (3, 3)
        and module.stride == (1, 1)
        and module.padding == (1, 1)
        and module.dilation == (1, 1)
        and module.groups == 1
        and module.padding_mode == "zeros"
    )
