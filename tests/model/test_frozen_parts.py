"""Frozen parts of the backbone: layers without gradients, batch norms that never change."""

from __future__ import annotations

import pytest
import torch
from efficientnet_pytorch import EfficientNet
from torch import nn
from torchvision.models import resnet50
from torchvision.models.detection import RetinaNet

from model.efficient_retinanet import (
    get_efficient_retinanet,
)
from model.network.backbone_weights import BackboneWeights
from model.network.frozen_batch_norm import FrozenBatchNorm2d, freeze_batch_norms
from tests.small_models import (
    SIDE,
    build,
    pictures,
    target,
)

# The last block of each tapped stage.
LAST_BLOCKS = {"efficientnet-b0": (4, 7, 10, 14, 15), "efficientnet-b4": (9, 15, 21, 29, 31)}


@pytest.fixture(scope="module")
def pretrained() -> BackboneWeights:
    """Stands in for ImageNet's weights of a b0."""
    torch.manual_seed(2)
    network = EfficientNet.from_name("efficientnet-b0", image_size=None, include_top=False)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        network(torch.randn(8, 3, SIDE, SIDE))
    return BackboneWeights(network.state_dict(), "a test")


def with_layers(
    weights: BackboneWeights, trainable: int | None, freeze_batch_norm: bool | None = None
) -> RetinaNet:
    return get_efficient_retinanet(
        7,
        trainable_backbone_layers=trainable,
        backbone_weights=weights,
        image_size=SIDE,
        freeze_batch_norm=freeze_batch_norm,
    )


@pytest.fixture(scope="module")
def b0() -> RetinaNet:
    return build()


@pytest.mark.parametrize("trainable", range(7))
def test_trainable_layers_count_from_the_deepest(
    trainable: int, pretrained: BackboneWeights
) -> None:
    network = with_layers(pretrained, trainable).backbone.body.network
    last_blocks = LAST_BLOCKS["efficientnet-b0"]
    first_trained_block = [16, 16, *(block + 1 for block in last_blocks[::-1][1:]), 0][trainable]
    for index, block in enumerate(network._blocks):
        flags = {p.requires_grad for p in block.parameters()}
        assert flags == {index >= first_trained_block}, index
        assert block.training == (index >= first_trained_block)
    assert network._conv_head.weight.requires_grad == (trainable >= 1)
    assert network._conv_stem.weight.requires_grad == (trainable == 6)


@pytest.mark.parametrize("trainable", range(6))
def test_trainable_layers_of_a_resnet50_count_from_the_deepest(trainable: int) -> None:
    network = resnet50(weights=None)
    network.fc = nn.Identity()
    weights = BackboneWeights(network.state_dict(), "a test")
    model = get_efficient_retinanet(7, "resnet50", trainable, backbone_weights=weights)
    trained = {
        name.split(".")[0]
        for name, p in model.backbone.body.named_parameters()
        if p.requires_grad and p.ndim > 1
    }
    assert trained == set(["layer4", "layer3", "layer2", "layer1", "conv1"][:trainable])


def test_training_steps_leave_a_frozen_part_as_it_was_to_the_bit(
    pretrained: BackboneWeights,
) -> None:
    model = with_layers(pretrained, 2, freeze_batch_norm=False)
    model.train()
    model.eval()
    model.train()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-3)
    for _ in range(2):
        losses = model(pictures((64, 64), (64, 64)), [target((4, 4, 40, 40)), target()])
        sum(losses.values()).backward()
        optimizer.step()
    changed = {n for n, t in model.state_dict().items() if not torch.equal(t, before[n])}
    network = "backbone.body.network."
    trained = (f"{network}_blocks.15.", f"{network}_conv_head", f"{network}_bn1")
    assert all(name.startswith(trained) for name in changed if name.startswith(network))
    assert f"{network}_blocks.15._bn0.running_mean" in changed
    assert f"{network}_conv_head.weight" in changed
    for name, parameter in model.named_parameters():
        if name.startswith(network) and not name.startswith(trained):
            assert parameter.grad is None, name


def test_a_frozen_body_in_training_knows_no_drop_connect(pretrained: BackboneWeights) -> None:
    images = torch.randn(4, 3, SIDE, SIDE)

    def passes_differ(trainable: int) -> bool:
        body = with_layers(pretrained, trainable).train().backbone.body
        with torch.no_grad():
            one, other = body(images)["5"], body(images)["5"]
        return not torch.equal(one, other)

    assert not passes_differ(0)
    assert passes_differ(6)


def test_batch_norm_is_frozen_with_pretrained_weights_only(
    b0: RetinaNet, pretrained: BackboneWeights
) -> None:
    assert not any(isinstance(m, FrozenBatchNorm2d) for m in b0.modules())
    momenta = [m.momentum for m in b0.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(momenta) == 49
    assert all((1 - momentum) ** 50 < 0.01 for momentum in momenta), "follows within tens of steps"
    model = with_layers(pretrained, None)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert sum(isinstance(m, FrozenBatchNorm2d) for m in model.modules()) == 49


def test_a_frozen_batch_norm_gives_what_the_other_gives_in_evaluation() -> None:
    norm = nn.BatchNorm2d(5, eps=1e-3)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Sequential(norm))
    images = torch.randn(2, 3, 9, 9)
    expected = network.eval()(images)
    freeze_batch_norms(network)
    assert isinstance(network[1][0], FrozenBatchNorm2d)
    network.train()
    for _ in range(2):
        torch.testing.assert_close(network(images), expected, rtol=1e-6, atol=1e-6)
    assert list(network[1].parameters()) == []
    with torch.autocast("cpu", torch.bfloat16):
        assert network(images).dtype == torch.bfloat16
