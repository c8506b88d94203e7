"""3x3 convolutions with a quarter of the multiplications, over several maps at once.

Winograd's minimal filtering F(4x4, 3x3): Lavin and Gray, https://arxiv.org/abs/1509.09308. A tile
of 6x6 inputs gives 4x4 outputs with 36 products a pair of channels, where 144 are usual.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils import skip_init

from model.tiles import OUTER, Tiles, as_rows

# What autograd calls for a ReLU: the first argument where the second is positive, and zeros.
threshold_backward = torch.ops.aten.threshold_backward

# The three matrices of F(4x4, 3x3), for one dimension: of the inputs, the kernel and the outputs.
_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OUTPUT = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)


def spread_kernel(weight: Tensor) -> Tensor:
    """weight: (K, C, 3, 3). Returns (36, C, K), what a tile is multiplied by."""
    kernel = weight.new_tensor(_KERNEL)
    return torch.einsum("ij,ocjk,lk->ilco", kernel, weight, kernel).flatten(0, 1).contiguous()


def convolve(
    rows: Tensor,
    tiles: Tiles,
    spread: Tensor,
    bias: Tensor | None = None,
    *,
    relu: bool = False,
    where: Tensor | None = None,
) -> Tensor:
    """rows: float32 (rows + 1, C), spread: (36, C, K). Returns (rows + 1, K).

    Zeros where no tile writes. relu: whether a ReLU follows. where: (rows + 1, K), the result is
    zero where it is not positive. No gradients: for those, see ``trainable_tower``.
    """
    inputs, outputs = _on_tiles(_INPUT, rows), _on_tiles(_OUTPUT, rows)
    shape = len(rows), spread.shape[2]
    out = rows.new_empty(shape) if tiles.are_all else rows.new_zeros(shape)
    for reads, writes in tiles.parts():
        products = torch.bmm(_multiplied(inputs, _gathered(rows, reads)), spread)
        results = _multiplied(outputs, products).flatten(0, 1)
        if bias is not None:
            results += bias
        if relu:
            results.relu_()
        here = writes.flatten()
        if where is not None:
            results = threshold_backward(results, where.index_select(0, here), 0)
        out.index_copy_(0, here, results)
    out[-1] = 0
    return out


def trainable_tower(
    rows: Tensor, needed: Sequence[Tiles], convolutions: Sequence[nn.Conv2d]
) -> Tensor:
    """Some 3x3 convolutions with ReLUs between them, and gradients for all that they are made of.

    rows: (rows + 1, C). needed: what each layer has to write; before them what ``rows``' gradient
    is wanted for, which reaches as far as the first layer reads, see ``Tiles.leading_to``.
    convolutions: with biases. Returns (rows + 1, K) of the last one; a gradient may come back only
    to locations that were wanted of it.
    """
    parameters = [p for c in convolutions for p in (c.weight, c.bias)]
    return _Tower.apply(rows, needed, *parameters)


class _Tower(torch.autograd.Function):
    """Keeps the layers' outputs alone for the way back: their tiles are more than twice as much."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, needed: Sequence[Tiles], *parameters: Tensor) -> Tensor:
        weights, biases = parameters[::2], parameters[1::2]
        last = len(weights) - 1
        layers = [rows]
        for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            tiles = needed[number + 1]
            out = convolve(layers[-1], tiles, spread_kernel(weight), bias, relu=number < last)
            layers.append(out)
        ctx.needed = needed
        ctx.save_for_backward(*weights, *layers[:-1])
        return layers[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        (gradient,) = gradients  # its last row is zero, as that of what follows is
        count = len(ctx.saved_tensors) // 2
        weights, inputs = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        of_parameters: list[Tensor | None] = []
        for number in reversed(range(count)):
            needs_weight, needs_bias = ctx.needs_input_grad[2 + 2 * number : 4 + 2 * number]
            tiles, before = ctx.needed[number + 1], ctx.needed[number]
            of_bias = gradient.sum(dim=0) if needs_bias else None
            of_weight = _weight_gradient(inputs[number], gradient, tiles) if needs_weight else None
            of_parameters = [of_weight, of_bias, *of_parameters]
            # What a location gave to its neighbours comes back from them: the kernel turned round.
            back = spread_kernel(weights[number].flip(2, 3).transpose(0, 1))
            gradient = convolve(gradient, before, back, where=inputs[number] if number else None)
        return gradient, None, *of_parameters


def _weight_gradient(rows: Tensor, gradient: Tensor, tiles: Tiles) -> Tensor:
    """The steps of ``convolve`` and ``spread_kernel`` backwards, as a (K, C, 3, 3) sees them."""
    inputs, outputs = _on_tiles(_INPUT, rows), _on_tiles(_OUTPUT, rows)
    total = rows.new_zeros(OUTER**2, rows.shape[1], gradient.shape[1])
    for reads, writes in tiles.parts():
        given = _multiplied(inputs, _gathered(rows, reads))
        there = _multiplied(outputs.T, _gathered(gradient, writes))
        total.baddbmm_(given.transpose(1, 2), there)
    kernel = rows.new_tensor(_KERNEL)
    return torch.einsum("ij,ilco,lk->ocjk", kernel, total.unflatten(0, (OUTER, OUTER)), kernel)


def _on_tiles(matrix: tuple[tuple[float, ...], ...], like: Tensor) -> Tensor:
    """What multiplies tiles by a matrix from the left and by its transpose from the right.

    A tile is a column of its positions, row by row.
    """
    one_way = like.new_tensor(matrix)
    return torch.kron(one_way, one_way)


def _gathered(rows: Tensor, places: Tensor) -> Tensor:
    """places: (positions, T). Returns (positions, T, C)."""
    return rows.index_select(0, places.flatten()).view(*places.shape, -1)


def _multiplied(matrix: Tensor, tiles: Tensor) -> Tensor:
    """matrix: (n, positions). tiles: (positions, T, C). Returns (n, T, C)."""
    return (matrix @ tiles.flatten(1)).view(len(matrix), *tiles.shape[1:])


class WinogradConv(nn.Module):
    """A 3x3 convolution of stride 1 and padding 1, for inference in float32.

    convolution: whose weights are taken over. relu: whether a ReLU follows.
    """

    spread: Tensor
    bias: Tensor | None

    def __init__(self, convolution: nn.Conv2d, *, relu: bool = False) -> None:
        super().__init__()
        self.relu = relu
        bias = convolution.bias
        self.register_buffer("spread", spread_kernel(convolution.weight.detach()))
        self.register_buffer("bias", None if bias is None else bias.detach())

    def forward(self, rows: Tensor, tiles: Tiles) -> Tensor:
        """rows: float32 (rows + 1, C). Returns (rows + 1, K), zeros where no tile writes."""
        return convolve(rows, tiles, self.spread, self.bias, relu=self.relu)


class WinogradConv2d(WinogradConv):
    """The same for a single map, in the place of an ``nn.Conv2d``."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """x: float32 (B, C, H, W). Returns (B, K, H, W), channels last."""
        rows, tiles = as_rows([x])
        return _as_map(super().forward(rows, tiles), x)


class TrainableWinogradConv2d(nn.Conv2d):
    """A 3x3 convolution of stride 1 and padding 1 that trains with fewer multiplications on a CPU.

    In float32, that is; elsewhere, and in evaluation mode, it is what it inherits from.
    """

    @classmethod
    def sharing(cls, convolution: nn.Conv2d) -> TrainableWinogradConv2d:
        """With the weights of a convolution that is ``replaceable``."""
        channels = convolution.in_channels, convolution.out_channels
        ours = skip_init(cls, *channels, 3, padding=1, bias=convolution.bias is not None)
        ours.weight, ours.bias = convolution.weight, convolution.bias
        return ours

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, H, W). Returns (B, K, H, W)."""
        in_float32 = x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
        if not (self.training and in_float32):
            return super().forward(x)
        rows, tiles = as_rows([x])
        out = trainable_tower(rows, [tiles, tiles], [self])
        return _as_map(out, x)


def _as_map(rows: Tensor, x: Tensor) -> Tensor:
    """A map's rows in the shape of the map x that they come from."""
    batch, _, height, width = x.shape
    return rows[:-1].view(batch, height, width, -1).permute(0, 3, 1, 2)


def replaceable(module: nn.Module) -> bool:
    """Whether ``WinogradConv`` computes the same as this module."""
    return (
        isinstance(module, nn.Conv2d)
        and type(module) in (nn.Conv2d, TrainableWinogradConv2d)
        and module.kernel_size == (3, 3)
        and module.stride == (1, 1)
        and module.padding == (1, 1)
        and module.dilation == (1, 1)
        and module.groups == 1
        and module.padding_mode == "zeros"
    )
