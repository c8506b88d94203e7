"""Schedule, parameter groups and average of the weights."""

from __future__ import annotations

import math

import pytest
import torch

from model.network.backbone_weights import BackboneWeights
from model.training.recipe import Recipe, parameter_groups, warmed_up_average, warmup_cosine
from tests.small_models import build


def test_the_rate_rises_linearly_to_its_peak_and_falls_as_a_cosine_to_zero() -> None:
    factors = [warmup_cosine(step, 4, 24) for step in range(25)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[4:] == sorted(factors[4:], reverse=True)
    assert factors[14] == pytest.approx(0.5)
    assert factors[9] == pytest.approx(0.5 + 0.5 * math.cos(math.pi / 4))
    assert factors[24] == pytest.approx(0)
    assert warmup_cosine(99, 4, 24) == pytest.approx(0), "past the end it stays there"
    assert warmup_cosine(0, 0, 1) == 1


def test_every_trainable_parameter_is_moved_once_and_no_bias_or_norm_decays() -> None:
    recipe = Recipe(learning_rate=1e-3, backbone_factor=0.1, weight_decay=0.05)
    weights = BackboneWeights(build().backbone.body.network.state_dict(), "a test")
    model = build("efficientnet-b0", 3, backbone_weights=weights, freeze_batch_norm=False)
    groups = parameter_groups(model, recipe)
    listed = [id(p) for group in groups for p in group["params"]]
    trainable = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    assert sorted(listed) == sorted(trainable)
    for group in groups:
        for parameter in group["params"]:
            name = trainable[id(parameter)]
            slow = name.startswith("backbone.body.")
            assert group["lr"] == pytest.approx(1e-4 if slow else 1e-3), name
            single = name.endswith("bias") or "_bn" in name
            assert group["weight_decay"] == (0.0 if single else 0.05), name
    assert groups[0]["lr"] == 1e-3, "the rate that is shown is the peak one"


@pytest.mark.parametrize(("steps", "keep"), [(1, 2 / 11), (8, 0.5), (100_000, 0.998)])
def test_the_decay_of_the_average_warms_up(steps: int, keep: float) -> None:
    average, current = [torch.zeros(3), torch.ones(2)], [torch.ones(3), torch.ones(2)]
    warmed_up_average(0.998)(average, current, torch.tensor(steps))
    torch.testing.assert_close(average, [torch.full((3,), 1 - keep), torch.ones(2)])
    count = [torch.tensor(10)]
    warmed_up_average(0.998)(count, [torch.tensor(21)], torch.tensor(steps))
    assert count[0].item() == 21, "whole numbers are copied"
