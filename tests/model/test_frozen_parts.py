"""Frozen parts of the backbone: layers without gradients, batch norms that never change."""

from __future__ import annotations

import pytest
import torch
from efficientnet_pytorch import EfficientNet
from torch import nn
from torchvision.models import resnet50
from torchvision.models.detection import RetinaNet

from model.network.backbone_weights import BackboneWeights
from model.network.frozen_batch_norm import FrozenBatchNorm2d, freeze_batch_norms
from tests.small_models import SIDE, build, pictures, target

B0 = "efficientnet-b0"


@pytest.fixture(scope="module")
def pretrained() -> BackboneWeights:
    """Stands in for ImageNet's weights of a b0."""
    torch.manual_seed(2)
    network = EfficientNet.from_name(B0, image_size=None, include_top=False)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        network(torch.randn(8, 3, SIDE, SIDE))
    return BackboneWeights(network.state_dict(), "a test")


@pytest.mark.parametrize("trainable", range(7))
def test_trainable_layers_count_from_the_deepest(
    trainable: int, pretrained: BackboneWeights
) -> None:
    model = build(B0, trainable, backbone_weights=pretrained)
    network = model.backbone.body.network
    first_trained_block = (16, 16, 15, 11, 8, 5, 0)[trainable]
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
    model = build("resnet50", trainable, backbone_weights=weights)
    trained = {
        name.split(".")[0]
        for name, p in model.backbone.body.named_parameters()
        if p.requires_grad and p.ndim > 1
    }
    assert trained == set(["layer4", "layer3", "layer2", "layer1", "conv1"][:trainable])
    norms = {n for n, m in model.backbone.body.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert {name.split(".")[0].replace("bn1", "conv1") for name in norms} == trained


def test_training_steps_leave_a_frozen_part_as_it_was_to_the_bit(
    pretrained: BackboneWeights,
) -> None:
    model = build(B0, 2, backbone_weights=pretrained, freeze_batch_norm=False)
    model.train().eval().train()
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
        body = build(B0, trainable, backbone_weights=pretrained).train().backbone.body
        with torch.no_grad():
            one, other = body(images)["5"], body(images)["5"]
        return not torch.equal(one, other)

    assert not passes_differ(0)
    assert passes_differ(6)


def test_batch_norm_is_frozen_on_request_only(b0: RetinaNet, pretrained: BackboneWeights) -> None:
    assert not any(isinstance(m, FrozenBatchNorm2d) for m in b0.modules())
    momenta = [m.momentum for m in b0.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(momenta) == 49
    assert all((1 - momentum) ** 50 < 0.01 for momentum in momenta), "follows within tens of steps"
    trained = build(backbone_weights=pretrained)
    assert not any(isinstance(m, FrozenBatchNorm2d) for m in trained.modules())
    model = build(backbone_weights=pretrained, freeze_batch_norm=True)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert sum(isinstance(m, FrozenBatchNorm2d) for m in model.modules()) == 49


def test_a_frozen_batch_norm_gives_what_the_other_gives_in_evaluation() -> None:
    norm = nn.BatchNorm2d(5, eps=1e-3)
    for values in norm.state_dict().values():
        values.copy_(torch.rand(values.shape) + 0.5)
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
