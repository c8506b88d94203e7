"""Convolutions that compute what others compute, in another way."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils import skip_init

from model.cpu.switch import cpu_kernels_apply

Kind = TypeVar("Kind", bound=nn.Conv2d)


def sharing_weights(kind: type[Kind], convolution: nn.Conv2d, padding: int = 0) -> Kind:
    """A convolution of this kind with the very weights of another, with other padding.

    Both sides of its kernel and of its stride are equal, and it has no dilation.
    """
    # Without weights of its own: drawing them would change what a seed gives the other layers.
    ours = skip_init(
        kind,
        convolution.in_channels,
        convolution.out_channels,
        convolution.kernel_size,
        stride=convolution.stride[0],
        padding=padding,
        groups=convolution.groups,
        bias=convolution.bias is not None,
    )
    ours.weight, ours.bias = convolution.weight, convolution.bias
    return ours


class Depthwise(nn.Conv2d):
    """A depthwise convolution with an odd kernel, stride 1 or 2, and TensorFlow's padding "SAME".

    With a stride of 2 an even side gets a pixel less of padding before than after, for which the
    package of EfficientNet copies the map. On a CPU the kernel gets a row or column of zeros
    instead, and gradients take a way of their own; they have no gradients themselves.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, H, W). Returns (B, C, H / stride, W / stride), rounded up, of its dtype."""
        if not cpu_kernels_apply(x):
            left, most, top, _ = padding = _padding(x, self.weight, self.stride[0])
            pads_itself = left == top == most
            given = x if pads_itself else F.pad(x, padding)
            margin = most if pads_itself else 0
            return F.conv2d(given, self.weight, self.bias, self.stride, margin, groups=self.groups)
        if torch.is_grad_enabled():
            return _Depthwise.apply(x, self.weight, self.bias, self.stride[0])
        return _convolved(x, self.weight, self.bias, self.stride[0])


def _padding(x: Tensor, weight: Tensor, stride: int) -> tuple[int, int, int, int]:
    """Left, right, top, bottom, as ``F.pad`` takes it."""
    most = weight.shape[2] // 2
    top, left = (most - (stride == 2 and side % 2 == 0) for side in x.shape[2:])
    return left, most, top, most


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    left, most, top, _ = _padding(x, weight, stride)
    longer = F.pad(weight, (most - left, 0, most - top, 0))
    return F.conv2d(x, longer, bias, stride, padding=most, groups=len(weight))


class _Depthwise(torch.autograd.Function):
    """The longer kernel has no fast code backwards, and weights of 5x5 are faster in two halves."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return _convolved(x, weight, bias, stride)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        (gradient,) = gradients
        needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        return (
            _of_input(gradient, x, weight, ctx.stride) if needs_x else None,
            _of_weight(gradient, x, weight, ctx.stride) if needs_weight else None,
            gradient.sum(dim=(0, 2, 3)) if needs_bias else None,
            None,
        )


def _of_input(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    left, right, top, bottom = _padding(x, weight, stride)
    batch, channels, height, width = x.shape
    padded = x.new_empty(batch, height + top + bottom, width + left + right, channels)
    found = _backwards(gradient, padded.permute(0, 3, 1, 2), weight, stride, (True, False, False))
    return found[0].narrow(2, top, height).narrow(3, left, width)


def _of_weight(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    left, right, top, bottom = _padding(x, weight, stride)
    size = weight.shape[3]
    found = []
    for start, stop in ((0, 3), (3, size)) if size > 3 else ((0, size),):
        seen = F.pad(x, (left - start, right - (size - stop), top, bottom))
        some = weight[..., start:stop]
        found.append(_backwards(gradient, seen, some, stride, (False, True, False))[1])
    return torch.cat(found, dim=3)


def _backwards(
    gradient: Tensor, padded: Tensor, weight: Tensor, stride: int, mask: tuple[bool, bool, bool]
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.ops.aten.convolution_backward(
        gradient,
        padded,
        weight,
        None,
        stride=[stride] * 2,
        padding=[0, 0],
        dilation=[1, 1],
        transposed=False,
        output_padding=[0, 0],
        groups=len(weight),
        output_mask=mask,
    )
