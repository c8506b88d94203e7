"""A convolution that computes another's result in its own way has its gradients too."""

from __future__ import annotations

import pytest
import torch
from efficientnet_pytorch.utils import Conv2dDynamicSamePadding
from torch import Tensor, nn

from model.cpu.depthwise import Depthwise, sharing_weights


def package_s(size: int, stride: int, bias: bool = False) -> nn.Conv2d:
    torch.manual_seed(0)
    return Conv2dDynamicSamePadding(6, 6, size, stride=stride, groups=6, bias=bias)


def result_and_gradients(convolution: nn.Conv2d, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    out = convolution(x)
    (out**2).sum().backward()
    gradients = [p.grad.clone() for p in convolution.parameters()]
    convolution.zero_grad()
    return [out.detach(), x.grad, *gradients]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("sides", [(8, 8), (7, 9), (6, 11), (11, 6), (1, 1), (2, 2), (1, 4)])
def test_it_is_the_padded_convolution_of_the_package(
    sides: tuple[int, int], size: int, stride: int, bias: bool
) -> None:
    theirs = package_s(size, stride, bias).double()
    ours = sharing_weights(Depthwise, theirs)
    assert ours.weight is theirs.weight and ours.bias is theirs.bias
    x = torch.randn(2, 6, *sides, dtype=torch.float64)
    for layout in (torch.contiguous_format, torch.channels_last):
        given = x.to(memory_format=layout)
        for one, other in zip(
            result_and_gradients(ours, given), result_and_gradients(theirs, given), strict=True
        ):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("sides", [(8, 8), (7, 9), (7, 10)])
def test_where_it_copies_as_the_package_does_it_is_the_same(
    sides: tuple[int, int], stride: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = sharing_weights(Depthwise, package_s(size, stride).double())
    x = torch.randn(1, 6, *sides, dtype=torch.float64)
    fast = result_and_gradients(ours, x)
    monkeypatch.setattr("torch.compiler.is_compiling", lambda: True)
    monkeypatch.setattr("model.cpu.depthwise._convolved", None)
    for one, other in zip(result_and_gradients(ours, x), fast, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("needs", ["x", "weight", "bias"])
def test_only_the_gradients_asked_for_come_back(needs: str) -> None:
    ours = sharing_weights(Depthwise, package_s(5, 2, bias=True))
    tensors = {"x": torch.randn(1, 6, 8, 7), "weight": ours.weight, "bias": ours.bias}
    for name, tensor in tensors.items():
        tensor.requires_grad_(name == needs)
    ours(tensors["x"]).sum().backward()
    assert [name for name, tensor in tensors.items() if tensor.grad is not None] == [needs]


@pytest.mark.parametrize("stride", [1, 2])
def test_weights_in_bfloat16_and_autocast_round_and_no_more(stride: int) -> None:
    ours = sharing_weights(Depthwise, package_s(5, stride))
    x = torch.randn(1, 6, 8, 7)
    expected = ours(x).detach()
    with torch.autocast("cpu", torch.bfloat16):
        found = [ours(x)]
    found[0].sum().backward()
    assert ours.weight.grad is not None
    with torch.no_grad():
        found.append(ours.to(torch.bfloat16)(x.bfloat16()))
    for one in found:
        assert one.dtype == torch.bfloat16
        torch.testing.assert_close(one.float(), expected, rtol=2e-2, atol=2e-2)
