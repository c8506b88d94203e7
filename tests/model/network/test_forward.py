"""Losses and detections from one pass: the model's own numbers, whatever the batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import RetinaNet

from model.network import forward as detection
from model.network.forward import losses_and_detections
from tests.small_models import assert_same_detections, build, enliven, pictures, target


@pytest.fixture(scope="module")
def model() -> RetinaNet:
    # Of these random weights rounding is amplified the least: it is 10 times below what is allowed.
    torch.manual_seed(5)
    return enliven(build(score_thresh=0.01))


@pytest.fixture
def images() -> list[Tensor]:
    """Six of four sizes, two of them larger than the model's."""
    torch.manual_seed(2)
    return pictures((64, 64), (48, 64), (64, 64), (64, 30), (48, 64), (90, 128))


@pytest.fixture
def targets() -> list[dict[str, Tensor]]:
    return [
        target((4, 4, 40, 40), (20, 8, 44, 60)),
        target((1, 2, 60, 30), label=6),
        target(),
        target((2, 2, 28, 60), label=2),
        target(),
        target((10, 20, 100, 80), label=3),
    ]


@torch.no_grad()
def own_losses(
    model: RetinaNet, images: list[Tensor], targets: list[dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Those of torchvision's forward, with every part in evaluation mode."""
    model.training = True
    try:
        return model(images, targets)
    finally:
        model.training = False


@torch.no_grad()
def test_detections_are_those_of_the_models_own_forward(
    model: RetinaNet, images: list[Tensor], targets: list[dict[str, Tensor]]
) -> None:
    for image, truth in zip(images, targets, strict=True):
        _, found = losses_and_detections(model, [image], [truth])
        assert_same_detections(found, model([image]))
    same_size = [images[0], images[2]]
    _, found = losses_and_detections(model, same_size, [targets[0], targets[2]])
    assert_same_detections(found, model(same_size))


@torch.no_grad()
def test_losses_are_those_of_the_models_own_forward(
    model: RetinaNet, images: list[Tensor], targets: list[dict[str, Tensor]]
) -> None:
    pairs = [(images[0], targets[0]), (images[2], targets[2])]
    resized = (images[5], targets[5])
    for chosen in ([pairs[0]], [pairs[1]], pairs, [resized]):
        batch = [list(part) for part in zip(*chosen, strict=True)]
        losses, _ = losses_and_detections(model, *batch)
        expected = own_losses(model, *batch)
        assert losses.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(losses[name], value, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_batch_of_six_gives_the_detections_of_six_batches_of_one(
    model: RetinaNet, images: list[Tensor], targets: list[dict[str, Tensor]]
) -> None:
    together = losses_and_detections(model, images, targets)[1]
    alone = [
        losses_and_detections(model, [image], [truth])[1][0]
        for image, truth in zip(images, targets, strict=True)
    ]
    assert_same_detections(together, alone)


@torch.no_grad()
def test_a_batch_of_six_gives_the_mean_losses_of_six_batches_of_one(
    model: RetinaNet, images: list[Tensor], targets: list[dict[str, Tensor]]
) -> None:
    together = losses_and_detections(model, images, targets)[0]
    alone = [
        losses_and_detections(model, [image], [truth])[0]
        for image, truth in zip(images, targets, strict=True)
    ]
    for name, value in together.items():
        mean = torch.stack([losses[name] for losses in alone]).mean()
        torch.testing.assert_close(value, mean, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_without_grouping_by_size_the_neighbours_would_change_the_detections(
    model: RetinaNet, images: list[Tensor], targets: list[dict[str, Tensor]]
) -> None:
    # 64 x 64 and 64 x 30: alone, the second is padded to a width of 32.
    mixed, truths = [images[0], images[3]], [targets[0], targets[3]]
    alone = losses_and_detections(model, mixed[1:], truths[1:])[1]
    ungrouped = detection._forward(model, mixed, truths)[1]
    with pytest.raises(AssertionError):
        assert_same_detections(ungrouped[1:], alone)


@torch.no_grad()
def test_without_targets_there_are_the_same_detections_and_no_losses(
    model: RetinaNet, images: list[Tensor], targets: list[dict[str, Tensor]]
) -> None:
    losses, found = losses_and_detections(model, images, None)
    assert losses == {}
    assert_same_detections(found, losses_and_detections(model, images, targets)[1])


@torch.no_grad()
def test_images_of_one_size_share_a_forward_pass(
    model: RetinaNet, images: list[Tensor], targets: list[dict[str, Tensor]]
) -> None:
    batches: list[int] = []
    hook = model.backbone.register_forward_pre_hook(
        lambda module, inputs: batches.append(len(inputs[0]))
    )
    losses_and_detections(model, images, targets)
    hook.remove()
    assert sorted(batches) == [1, 1, 2, 2]
