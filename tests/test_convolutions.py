"""A convolution that computes another's result in its own way has its gradients too."""

from __future__ import annotations

import pytest
import torch
from efficientnet_pytorch.utils import Conv2dDynamicSamePadding
from torch import Tensor, nn

from model.convolutions import Depthwise, sharing_weights


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


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("sides", [(8, 8), (7, 9), (7, 10)])
def test_where_it_copies_as_the_package_does_the_result_is_the_same(
    sides: tuple[int, int], stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = sharing_weights(Depthwise, package_s(3, stride))
    x = torch.randn(1, 6, *sides)
    fast = ours(x)
    monkeypatch.setattr("torch.compiler.is_compiling", lambda: True)
    monkeypatch.setattr("model.convolutions._convolved", None)
    torch.testing.assert_close(ours(x), fast)
