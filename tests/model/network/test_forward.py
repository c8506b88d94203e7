"""Losses and detections from one pass: the model's own numbers, whatever the batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import RetinaNet

from model.network.forward import losses_and_detections
from tests.small_models import assert_same_detections, pictures, target


@pytest.fixture
def images() -> list[Tensor]:
    """Seven, of four sizes when resized; the fourth and the last two are not of that size yet."""
    torch.manual_seed(2)
    return pictures((64, 64), (48, 64), (64, 64), (32, 15), (48, 64), (90, 128), (45, 64))


@pytest.fixture
def targets() -> list[dict[str, Tensor]]:
    first = target((4, 4, 40, 40), (20, 8, 44, 60)), target((1, 2, 60, 30), label=6)
    third = target((10, 20, 100, 80), label=3), target((5, 10, 50, 40), label=3)
    return [*first, target(), target((1, 1, 14, 30), label=2), target(), *third]


@torch.no_grad()
def test_losses_and_detections_are_those_of_torchvisions_forward(
    b0: RetinaNet,
    images: list[Tensor],
    targets: list[dict[str, Tensor]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for rows in ([0], [2], [0, 2], [5]):
        batch = [images[row] for row in rows], [targets[row] for row in rows]
        losses, detections = losses_and_detections(b0, *batch)
        assert_same_detections(detections, RetinaNet.forward(b0, batch[0]))
        with monkeypatch.context() as patch:  # losses, while every part is in evaluation mode
            patch.setattr(b0, "training", True)
            torch.testing.assert_close(losses, b0(*batch), rtol=1e-5, atol=1e-5)


def in_passes(
    model: RetinaNet, sizes: list[int], images: list[Tensor], targets: Any = None
) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    """Losses and detections, from passes of so many images."""
    passes: list[int] = []
    hook = model.backbone.register_forward_pre_hook(
        lambda module, inputs: passes.append(len(inputs[0]))
    )
    result = losses_and_detections(model, images, targets)
    hook.remove()
    assert passes == sizes
    return result


@torch.no_grad()
def test_a_batch_of_seven_gives_what_seven_batches_of_one_give_in_fewer_passes(
    b0: RetinaNet, images: list[Tensor], targets: list[dict[str, Tensor]]
) -> None:
    losses, together = in_passes(b0, [2, 2, 1, 2], images, targets)
    pairs = zip(images, targets, strict=True)
    alone = [losses_and_detections(b0, [image], [truth]) for image, truth in pairs]
    assert_same_detections(together, [detections[0] for _, detections in alone])
    for name, value in losses.items():
        mean = torch.stack([each[name] for each, _ in alone]).mean()
        torch.testing.assert_close(value, mean, rtol=1e-5, atol=1e-5)
    without_targets = losses_and_detections(b0, images, None)
    assert without_targets[0] == {}
    assert_same_detections(without_targets[1], together)


@torch.no_grad()
def test_photographs_of_four_sizes_that_become_one_size_cost_one_pass(b0: RetinaNet) -> None:
    photographs = pictures((480, 640), (240, 320), (96, 128), (48, 64))
    _, together = in_passes(b0, [4], photographs)
    alone = [losses_and_detections(b0, [image], None)[1][0] for image in photographs]
    assert_same_detections(together, alone)


@torch.no_grad()
def test_padding_to_the_size_of_a_neighbour_would_change_the_detections(
    b0: RetinaNet, images: list[Tensor]
) -> None:
    # 64 x 64 and 64 x 30: alone, the second is padded to a width of 32.
    mixed = [images[0], images[3]]
    alone = losses_and_detections(b0, mixed[1:], None)[1]
    padded = RetinaNet.forward(b0, mixed)
    with pytest.raises(AssertionError):
        assert_same_detections(padded[1:], alone)


@torch.no_grad()
def test_boxes_lie_inside_the_original_image(b0: RetinaNet) -> None:
    sizes = [(side, 2 * side + 1) for side in range(33, 64, 2)]
    detections = losses_and_detections(b0, pictures(*sizes), None)[1]
    for (height, width), detection in zip(sizes, detections, strict=True):
        boxes = detection["boxes"]
        assert len(boxes) and boxes.min() >= 0
        assert (boxes <= torch.tensor([width, height, width, height])).all()


def test_no_images_give_no_losses_and_no_detections(b0: RetinaNet) -> None:
    for targets in (None, []):
        assert losses_and_detections(b0, [], targets) == ({}, [])
