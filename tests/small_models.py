"""Detectors for tests: small images and random weights, but outputs that depend on the input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet

from model.checkpoint import DetectorDescription
from model.efficient_retinanet import get_efficient_retinanet

SIDE = 64  # pixels
DESCRIPTION = DetectorDescription(
    "efficientnet-b0", ("ace", "king"), SIDE, anchor_scale=0.25, data={"path": "/cards", "seed": 3}
)


def build(
    name: str = "efficientnet-b0", trainable_layers: int | None = None, **options: Any
) -> RetinaNet:
    """options: of ``get_efficient_retinanet``."""
    small = {"backbone_weights": "none", "image_size": SIDE, "anchor_scale": 0.25}
    return get_efficient_retinanet(7, name, trainable_layers, **{**small, **options})


def with_varied_outputs(model: RetinaNet, spread: float = 0.1) -> RetinaNet:
    """In evaluation mode, with batch statistics of noise and scores that depend on the location.

    The last layers of a new network are small, and every anchor has nearly the same score.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    model.train()
    with torch.no_grad():
        model.backbone(torch.randn(8, 3, SIDE, SIDE))
        for head in (model.head.classification_head, model.head.regression_head):
            for conv in (m for m in head.modules() if isinstance(m, nn.Conv2d)):
                nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        model.head.classification_head.cls_logits.weight.mul_(spread)
        model.head.classification_head.cls_logits.bias.fill_(-2.0)
        model.head.regression_head.bbox_reg.weight.mul_(0.01)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()


def pictures(*sizes: tuple[int, int]) -> list[Tensor]:
    """Float noise in 0..1, of these heights and widths."""
    return [torch.rand(3, height, width) for height, width in sizes]


def target(*boxes: Sequence[float], label: int = 1) -> dict[str, Tensor]:
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.full((len(boxes),), label, dtype=torch.int64),
    }


def assert_same_detections(
    ours: Sequence[dict[str, Tensor]],
    expected: Sequence[dict[str, Tensor]],
    rtol: float = 1e-5,
    *,
    score_atol: float | None = None,
    box_atol: float = 1e-3,
) -> None:
    """Of a batch; there are some. rtol: of scores and boxes.

    Rounding may exchange detections of nearly equal scores; each has one of its own on both sides.
    """
    if score_atol is None:
        score_atol = min(10 * rtol, 1e-4)
    assert sum(len(one["scores"]) for one in ours) > 0
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one["scores"], other["scores"], rtol=rtol, atol=score_atol)
        same = one["labels"][:, None] == other["labels"]
        same &= torch.isclose(one["scores"][:, None], other["scores"], rtol=rtol, atol=score_atol)
        boxes = one["boxes"][:, None], other["boxes"]
        same &= torch.isclose(*boxes, rtol=rtol, atol=box_atol).all(dim=-1)
        is_free = torch.ones(len(same), dtype=torch.bool)
        for row in same:
            assert (row & is_free).any()
            is_free[(row & is_free).int().argmax()] = False
