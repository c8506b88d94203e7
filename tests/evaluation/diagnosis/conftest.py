"""Detectors that are built once for all tests of the diagnosis."""

from __future__ import annotations

import pytest
import torch
from efficientnet_pytorch import EfficientNet
from torchvision.models.detection import RetinaNet

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
    weights = str(path)
    return build(backbone_weights=weights, trainable_backbone_layers=0, freeze_batch_norm=True)


@pytest.fixture(scope="package")
def frozen_by_hand() -> RetinaNet:
    model = build().train()
    model.backbone.body.requires_grad_(False)
    # As in a run, where the statistics go on following the output of the frozen part.
    with torch.no_grad():
        model.backbone(torch.rand(2, 3, 64, 64))
    return model.eval()
