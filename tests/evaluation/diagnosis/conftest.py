"""Detectors that are built, and anchors that are measured, once for all tests of the diagnosis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from efficientnet_pytorch import EfficientNet
from torchvision.models.detection import RetinaNet

from evaluation.diagnosis import gather
from evaluation.diagnosis.anchor_fit import AnchorFit, anchor_fit
from tests.evaluation.diagnosis.planted import build


@pytest.fixture(scope="package")
def model() -> RetinaNet:
    """Untrained but whole: everything in it trains."""
    return build()


@pytest.fixture(scope="package")
def frozen_from_a_file(tmp_path_factory: pytest.TempPathFactory) -> RetinaNet:
    """Weights that are claimed to be pretrained, and are not."""
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(EfficientNet.from_name("efficientnet-b0", include_top=False).state_dict(), path)
    return build(backbone_weights=str(path), trainable_backbone_layers=0)


@pytest.fixture(scope="package")
def frozen_by_hand() -> RetinaNet:
    model = build().train()
    model.backbone.body.requires_grad_(False)
    # As in a run, where the statistics go on following the output of the frozen part.
    with torch.no_grad():
        model.backbone(torch.rand(2, 3, 64, 64))
    return model.eval()


@pytest.fixture(scope="package", autouse=True)
def measured_once() -> Iterator[None]:
    """The anchors of a model and its boxes are measured for real, but only once."""
    known: dict[Any, AnchorFit] = {}
    kept: list[RetinaNet] = []  # so that no other model gets the id of one

    def measure(model: RetinaNet, boxes: Any, sizes: Any) -> AnchorFit:
        key = (id(model), tuple(b.tobytes() for b in boxes), tuple(sizes))
        if key not in known:
            kept.append(model)
            known[key] = anchor_fit(model, boxes, sizes)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gather, "anchor_fit", measure)
        yield
