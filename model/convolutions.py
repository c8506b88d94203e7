"""Convolutions that compute what others compute, in another way."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils import skip_init

Kind = TypeVar("Kind", bound=nn.Conv2d)


def sharing_weights(kind: type[Kind], convolution: nn.Conv2d, padding: int = 0) -> Kind:
    """A convolution of this kind with the very weights of another, with other padding.

    Both sides of its kernel and of its stride are equal.
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


class HalvingDepthwise(nn.Conv2d):
    """A depthwise convolution of stride 2, padded as TensorFlow's "SAME"; sizes are odd.

    On an even side the map ends a pixel of padding further than it begins, for which the package
    of EfficientNet copies the map. On a CPU the kernel gets a row or column of zeros instead.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, H, W). Returns (B, C, H / 2, W / 2), rounded up."""
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return self._conv_forward(F.pad(x, self._padding_of(x)), self.weight, self.bias)
        if torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu"):
            return _Halving.apply(x, self.weight, self.bias, self._padding_of(x))
        return _halved(x, self.weight, self.bias)

    def _padding_of(self, x: Tensor) -> tuple[int, int, int, int]:
        """As ``F.pad`` takes it."""
        most = self.kernel_size[0] // 2
        height, width = (most - (side % 2 == 0) for side in x.shape[2:])
        return width, most, height, most


def _halved(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    height, width = (int(side % 2 == 0) for side in x.shape[2:])
    longer, padding = F.pad(weight, (width, 0, height, 0)), weight.shape[2] // 2
    return F.conv2d(x, longer, bias, stride=2, padding=padding, groups=len(weight))


class _Halving(torch.autograd.Function):
    """On the way back the padded map is worth its while: the longer kernel has no fast code."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, ...]
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        return _halved(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needed, shape = ctx.needs_input_grad[:3], [len(weight)]
        of_padded, of_weight, of_bias = torch.ops.aten.convolution_backward(
            gradients[0],
            F.pad(x, ctx.padding),
            weight,
            shape if needed[2] else None,
            stride=[2, 2],
            padding=[0, 0],
            dilation=[1, 1],
            transposed=False,
            output_padding=[0, 0],
            groups=len(weight),
            output_mask=needed,
        )
        of_x = None
        if needed[0]:
            left, _, top, _ = ctx.padding
            of_x = of_padded.narrow(2, top, x.shape[2]).narrow(3, left, x.shape[3])
        return of_x, of_weight, of_bias, None
