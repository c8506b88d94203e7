"""Detectors for tests: small images and random weights, but outputs that depend on the input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet

from model.efficient_retinanet import get_efficient_retinanet

SIDE = 64  # pixels


def build(
    name: str = "efficientnet-b0", score_thresh: float = 0.05, weights: str = "none"
) -> RetinaNet:
    return get_efficient_retinanet(
        7,
        name,
        score_thresh=score_thresh,
        backbone_weights=weights,
        image_size=SIDE,
        anchor_scale=0.25,
    )


def with_varied_outputs(model: RetinaNet, spread: float = 0.1) -> RetinaNet:
    """In evaluation mode, with batch statistics of noise and scores that depend on the location.

    The signal vanishes in a new random network, and every anchor has the same score.
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


enliven = with_varied_outputs


def pictures(*sizes: tuple[int, int]) -> list[Tensor]:
    """Float noise in 0..1, of these heights and widths."""
    return [torch.rand(3, height, width) for height, width in sizes]


def target(*boxes: Sequence[float], label: int = 1) -> dict[str, Tensor]:
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.full((len(boxes),), label, dtype=torch.int64),
    }


def assert_same_detections(
    ours: Sequence[dict[str, Tensor]], expected: Sequence[dict[str, Tensor]]
) -> None:
    assert len(ours) == len(expected)
    for one, other in zip(ours, expected, strict=True):
        assert len(one["scores"]) == len(other["scores"]) > 0
        torch.testing.assert_close(one["labels"], other["labels"])
        torch.testing.assert_close(one["scores"], other["scores"], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(one["boxes"], other["boxes"], rtol=1e-5, atol=1e-3)
