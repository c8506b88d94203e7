"""Losses and detections from one pass: the model's own numbers, whatever the batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import RetinaNet

from model.network.forward import losses_and_detections
from tests.small_models import assert_same_detections, build, pictures, target, with_varied_outputs


@pytest.fixture(scope="module")
def model() -> RetinaNet:
    # Of these random weights rounding is amplified the least: it is 10 times below what is allowed.
    torch.manual_seed(5)
    return with_varied_outputs(build(score_thresh=0.01))


@pytest.fixture
def images() -> list[Tensor]:
    """Seven, of four sizes when resized; the fourth and the last two are not of that size yet."""
    torch.manual_seed(2)
    return pictures((64, 64), (48, 64), (64, 64), (32, 15), (48, 64), (90, 128), (45, 64))


@pytest.fixture
def targets() -> list[dict[str, Tensor]]:
    return [
        target((4, 4, 40, 40), (20, 8, 44, 60)),
        target((1, 2, 60, 30), label=6),
        target(),
        target((1, 1, 14, 30), label=2),
        target(),
        target((10, 20, 100, 80), label=3),
        target((5, 10, 50, 40), label=3),
    ]


@torch.no_grad()
def losses_of_own_forward(
    model: RetinaNet, images: list[Tensor], targets: list[dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Those of torchvision's forward, with every part in evaluation mode."""
    model.training = True
    try:
        return model(images, targets)
    finally:
        model.training = False


@torch.no_grad()
def test_losses_and_detections_are_those_of_torchvisions_forward(
    model: RetinaNet, images: list[Tensor], targets: list[dict[str, Tensor]]
) -> None:
    for rows in ([0], [2], [0, 2], [5]):
        batch = [images[row] for row in rows], [targets[row] for row in rows]
        losses, detections = losses_and_detections(model, *batch)
        assert_same_detections(detections, RetinaNet.forward(model, batch[0]))
        expected = losses_of_own_forward(model, *batch)
        assert losses.keys() == expected.keys()
        torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_batch_of_seven_gives_what_seven_batches_of_one_give_in_fewer_passes(
    model: RetinaNet, images: list[Tensor], targets: list[dict[str, Tensor]]
) -> None:
    passes: list[int] = []
    hook = model.backbone.register_forward_pre_hook(
        lambda module, inputs: passes.append(len(inputs[0]))
    )
    losses, together = losses_and_detections(model, images, targets)
    hook.remove()
    assert passes == [2, 2, 1, 2], "images of one size after resizing share a pass"
    alone = [
        losses_and_detections(model, [image], [truth])
        for image, truth in zip(images, targets, strict=True)
    ]
    assert_same_detections(together, [detections[0] for _, detections in alone])
    for name, value in losses.items():
        mean = torch.stack([each[name] for each, _ in alone]).mean()
        torch.testing.assert_close(value, mean, rtol=1e-5, atol=1e-5)
    without_targets = losses_and_detections(model, images, None)
    assert without_targets[0] == {}
    assert_same_detections(without_targets[1], together)


@torch.no_grad()
def test_photographs_of_four_sizes_that_become_one_size_cost_one_pass(model: RetinaNet) -> None:
    photographs = pictures((480, 640), (240, 320), (96, 128), (48, 64))
    passes: list[int] = []
    hook = model.backbone.register_forward_pre_hook(
        lambda module, inputs: passes.append(len(inputs[0]))
    )
    _, together = losses_and_detections(model, photographs, None)
    hook.remove()
    assert passes == [4]
    alone = [losses_and_detections(model, [image], None)[1][0] for image in photographs]
    assert_same_detections(together, alone)


@torch.no_grad()
def test_padding_to_the_size_of_a_neighbour_would_change_the_detections(
    model: RetinaNet, images: list[Tensor]
) -> None:
    # 64 x 64 and 64 x 30: alone, the second is padded to a width of 32.
    mixed = [images[0], images[3]]
    alone = losses_and_detections(model, mixed[1:], None)[1]
    padded = RetinaNet.forward(model, mixed)
    with pytest.raises(AssertionError):
        assert_same_detections(padded[1:], alone)


@torch.no_grad()
def test_boxes_lie_inside_the_original_image(model: RetinaNet) -> None:
    sizes = [(side, 2 * side + 1) for side in range(33, 64, 2)]
    for (height, width), detection in zip(
        sizes, losses_and_detections(model, pictures(*sizes), None)[1], strict=True
    ):
        boxes = detection["boxes"]
        assert len(boxes) and boxes.min() >= 0
        assert (boxes <= torch.tensor([width, height, width, height])).all()


def test_no_images_give_no_losses_and_no_detections(model: RetinaNet) -> None:
    assert losses_and_detections(model, [], None) == ({}, [])
    assert losses_and_detections(model, [], []) == ({}, [])
