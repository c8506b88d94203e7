"""The one detection step: a model's own detections and losses, as NumPy arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.models.detection import RetinaNet, retinanet_resnet50_fpn

from model.detector import Detector
from model.network.forward import losses_and_detections
from tests.small_models import SIDE, pictures, target
from utils.hardware import Machine

MACHINE = Machine(torch.device("cpu"), "fp32")


def torchvisions_retinanet() -> RetinaNet:
    return retinanet_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=7, score_thresh=0.0
    )


def test_it_gives_the_models_losses_and_detections_but_no_background(b0: RetinaNet) -> None:
    images, targets = pictures((64, 64), (48, 64)), [target((4, 4, 40, 40)), target()]
    with torch.no_grad():
        losses, expected = losses_and_detections(b0, images, targets)
    measured, detections = Detector(b0, MACHINE, losses=True)(images, targets)
    torch.testing.assert_close(measured, losses, rtol=1e-4, atol=1e-5)
    for one, other in zip(detections, expected, strict=True):
        objects = other["labels"] > 0
        assert 0 < len(one) < len(objects)
        assert all(isinstance(a, np.ndarray) for a in (one.boxes, one.scores, one.labels))
        assert one.labels.tolist() == other["labels"][objects].tolist()
        np.testing.assert_allclose(one.scores, other["scores"][objects], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(one.boxes, other["boxes"][objects], rtol=1e-3, atol=1e-2)
    assert Detector(b0, MACHINE)(images, targets)[0] == {}, "losses only where requested"
    assert Detector(b0, MACHINE)([]) == ({}, [])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_bytes_are_detected_as_fractions_by_any_retinanet(b0: RetinaNet, precision: str) -> None:
    torch.manual_seed(0)
    theirs = torchvisions_retinanet()
    theirs.transform.min_size, theirs.transform.max_size = (SIDE,), SIDE
    image = torch.randint(256, (3, 64, 48), dtype=torch.uint8)
    for network in (b0, theirs):
        detector = Detector(network, Machine(torch.device("cpu"), precision))
        ((of_bytes,), (of_fractions,)) = (detector([x])[1] for x in (image, image.float() / 255))
        assert len(of_bytes) > 0
        np.testing.assert_array_equal(of_bytes.boxes, of_fractions.boxes)


def test_heads_that_leave_bfloat16_give_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torchvision's do where none of our kernels replaces them, as on a graphics card."""
    monkeypatch.setattr("model.detector.for_inference", lambda model, *_, **__: model.eval())
    theirs = torchvisions_retinanet()
    theirs.transform.min_size = (SIDE,)  # at its 800 pixels this takes minutes without AVX-512
    detector = Detector(theirs, Machine(torch.device("cpu"), "bf16"))
    [detections] = detector(pictures((64, 64)))[1]
    assert detections.scores.dtype == detections.boxes.dtype == np.float32
