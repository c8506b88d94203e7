"""Norm and activation in one step give what two steps give, and save one map instead of two."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.cpu.normed_swish import normed_swish
from model.network.frozen_batch_norm import FrozenBatchNorm2d


@pytest.fixture
def norm() -> nn.BatchNorm2d:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(6, eps=1e-3, momentum=0.1).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


def maps() -> Tensor:
    return torch.randn(3, 6, 5, 4, dtype=torch.float64) * 3 + 1


def maps_saved_for_backward(norm: nn.Module, x: Tensor) -> list[Tensor]:
    """Saved maps other than x itself."""
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        normed_swish(norm, x)
    return [t for t in kept if t.numel() > 6 and t.data_ptr() != x.data_ptr()]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_results_gradients_and_statistics_are_those_of_two_steps(
    norm: nn.BatchNorm2d, layout: torch.memory_format
) -> None:
    x = maps().to(memory_format=layout)
    results = []
    for step in (normed_swish, lambda norm, x: F.silu(norm(x))):
        twin, leaf = copy.deepcopy(norm), x.clone().requires_grad_()
        for _ in range(2):
            out = step(twin, leaf)
        (out**2).sum().backward()
        results.append([out, leaf.grad, *(p.grad for p in twin.parameters()), *twin.buffers()])
    torch.testing.assert_close(*results, rtol=1e-11, atol=1e-11)


def test_training_saves_only_the_input(norm: nn.BatchNorm2d) -> None:
    x = maps().requires_grad_()
    assert maps_saved_for_backward(norm, x) == []
    assert len(maps_saved_for_backward(norm.eval(), x)) == 1, "two steps save two maps"


@pytest.mark.parametrize("needs", ["x", "weight", "bias"])
def test_only_the_requested_gradients_are_computed(norm: nn.BatchNorm2d, needs: str) -> None:
    tensors = {"x": maps().requires_grad_(), "weight": norm.weight, "bias": norm.bias}
    for name, tensor in tensors.items():
        tensor.requires_grad_(name == needs)
    normed_swish(norm, tensors["x"]).sum().backward()
    assert [name for name, tensor in tensors.items() if tensor.grad is not None] == [needs]


def test_evaluation_frozen_norms_and_none_at_all_are_two_steps(norm: nn.BatchNorm2d) -> None:
    frozen = FrozenBatchNorm2d(6, eps=norm.eps).double()
    frozen.load_state_dict(norm.state_dict())
    x = maps()
    expected = F.silu(copy.deepcopy(norm).eval()(x))
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            for module in (norm.eval(), frozen):
                torch.testing.assert_close(normed_swish(module, x.clone()), expected)
    torch.testing.assert_close(normed_swish(nn.Identity(), x.clone()), F.silu(x))


def test_a_single_value_a_channel_is_refused_as_by_the_norm(norm: nn.BatchNorm2d) -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        normed_swish(norm, maps()[:1, :, :1, :1])
