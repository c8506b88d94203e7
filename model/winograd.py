"""3x3 convolutions with a quarter of the multiplications, over several maps at once.

Winograd's minimal filtering F(4x4, 3x3): Lavin and Gray, https://arxiv.org/abs/1509.09308. A tile
of 6x6 inputs gives 4x4 outputs with 36 products a pair of channels, where 144 are usual.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from model.convolutions import sharing_weights
from model.tiles import INNER, OUTER, Tiles, as_rows, parts

# What autograd calls for a ReLU: the first argument where the second is positive, and zeros.
threshold_backward = torch.ops.aten.threshold_backward.grad_input

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


# Of the products of a tile, the one that the output transform adds to each of the 16 outputs.
_REACHES_ALL = OUTER + 1


class Workspace:
    """Memory for what only lives within a step, taken once for all layers and all parts.

    Fresh pages of the system for each of them cost more than half as much as the products.
    """

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._buffers: dict[str, Tensor] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        """Uninitialised, like the tensor given; what had this name before is overwritten."""
        size = math.prod(shape)
        if name not in self._buffers or len(self._buffers[name]) < size:
            self._buffers[name] = self._like.new_empty(size)
        return self._buffers[name][:size].view(shape)


def spread_kernel(weight: Tensor, out: Tensor | None = None) -> Tensor:
    """weight: (K, C, 3, 3). Returns (36, C, K), what a tile is multiplied by."""
    taps = weight.permute(2, 3, 1, 0).reshape(9, -1)
    flat = None if out is None else out.flatten(1)
    spread = torch.mm(_on_tiles(_KERNEL, weight), taps, out=flat)
    return spread.view(OUTER**2, weight.shape[1], weight.shape[0])


def convolve(
    rows: Tensor,
    reads: Tensor,
    spread: Tensor,
    bias: Tensor | None,
    out: Tensor,
    space: Workspace,
    *,
    relu: bool = False,
    where: Tensor | None = None,
) -> Tensor:
    """rows: (rows + 1, C), the last one zero. reads: (36, T), rows. spread: (36, C, K).

    Fills out, (16 T + 1, K), in the order in which the tiles write, with zeros at the end, and
    returns it. relu: whether a ReLU follows. where: like out, the result is zero where it is not
    positive.
    """
    inputs, outputs = _on_tiles(_INPUT, rows), _on_tiles(_OUTPUT, rows)
    blocks = _blocks(out)
    for some in parts(reads.shape[1]):
        tiles = _transformed_reads(inputs, rows, reads[:, some], space)
        products = space("first", OUTER**2, tiles.shape[1], spread.shape[2])
        torch.bmm(tiles, spread, out=products)
        if bias is not None:
            products[_REACHES_ALL] += bias
        results = blocks[:, some]
        torch.mm(outputs, products.flatten(1), out=results.flatten(1))
        if relu:
            results.relu_()
        if where is not None:
            threshold_backward(results, _blocks(where)[:, some], 0, grad_input=results)
    out[-1] = 0
    return out


def _blocks(rows: Tensor) -> Tensor:
    """What tiles write, (16 T + 1, K), without the zeros: (16, T, K)."""
    return rows[:-1].view(INNER**2, -1, rows.shape[1])


def _transformed_reads(matrix: Tensor, rows: Tensor, reads: Tensor, space: Workspace) -> Tensor:
    """matrix: (36, 36). reads: (36, T). Returns (36, T, C)."""
    shape = *reads.shape, rows.shape[1]
    gathered, transformed = space("first", *shape), space("second", *shape)
    torch.index_select(rows, 0, reads.flatten(), out=gathered.flatten(0, 1))
    torch.mm(matrix, gathered.flatten(1), out=transformed.flatten(1))
    return transformed


def trainable_tower(
    rows: Tensor, needed: Sequence[Tiles], convolutions: Sequence[nn.Conv2d]
) -> Tensor:
    """Some 3x3 convolutions with ReLUs between them, and gradients for all that they are made of.

    rows: (rows + 1, C). needed: what each layer has to write; before them what ``rows``' gradient
    is wanted for, which reaches as far as the first layer reads, see ``Tiles.leading_to``.
    convolutions: with biases or without. Returns (rows + 1, K) of the last one, zeros where it had
    nothing to write; a gradient may come back only to locations that were wanted of it.
    """
    parameters = [p for c in convolutions for p in (c.weight, c.bias)]
    return _Tower.apply(rows, needed, *parameters)


class _Tower(torch.autograd.Function):
    """Keeps the layers' outputs alone for the way back: their tiles are more than twice as much."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, needed: Sequence[Tiles], *parameters: Tensor) -> Tensor:
        weights, biases = parameters[::2], parameters[1::2]
        space, layers = Workspace(rows), [rows]
        for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            reads = _reads(needed, number)
            out = rows.new_empty(INNER**2 * reads.shape[1] + 1, len(weight))
            spread = _spread_in(space, weight)
            is_last = number == len(weights) - 1
            layers.append(convolve(layers[-1], reads, spread, bias, out, space, relu=not is_last))
        ctx.needed = needed
        ctx.save_for_backward(*weights, *layers[:-1])
        return layers[-1].index_select(0, needed[-1].places)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        needed: Sequence[Tiles] = ctx.needed
        # Its last row is zero, as that of what follows is.
        gradient = gradients[0].index_select(0, needed[-1].order)
        count = len(needed) - 1
        weights, inputs = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        space = Workspace(gradient)
        of_parameters: list[Tensor | None] = []
        for number in reversed(range(count)):
            needs_weight, needs_bias = ctx.needs_input_grad[2 + 2 * number : 4 + 2 * number]
            of_bias = gradient.sum(dim=0) if needs_bias else None
            of_weight = None
            if needs_weight:
                reads = _reads(needed, number)
                of_weight = _weight_gradient(inputs[number], reads, gradient, space)
            of_parameters = [of_weight, of_bias, *of_parameters]
            # What a location gave to its neighbours comes back from them: the kernel turned round.
            back = _spread_in(space, weights[number].flip(2, 3).transpose(0, 1))
            before = needed[number]
            where = inputs[number] if number else None
            out = gradient.new_empty(INNER**2 * before.reads.shape[1] + 1, back.shape[2])
            reads = before.reads_from(needed[number + 1])
            gradient = convolve(gradient, reads, back, None, out, space, where=where)
            gradient.index_fill_(0, before.outside, 0)
        return gradient.index_select(0, needed[0].places), None, *of_parameters


def _reads(needed: Sequence[Tiles], number: int) -> Tensor:
    """What a layer reads: the first one all locations, the others what the one before wrote."""
    tiles = needed[number + 1]
    return tiles.reads_from(needed[number]) if number else tiles.reads


def _spread_in(space: Workspace, weight: Tensor) -> Tensor:
    return spread_kernel(weight, space("spread", OUTER**2, weight.shape[1], weight.shape[0]))


def _weight_gradient(rows: Tensor, reads: Tensor, gradient: Tensor, space: Workspace) -> Tensor:
    """The steps of ``convolve`` and ``spread_kernel`` backwards. Returns (K, C, 3, 3)."""
    inputs, outputs = _on_tiles(_INPUT, rows), _on_tiles(_OUTPUT, rows).T
    channels, blocks = gradient.shape[1], _blocks(gradient)
    total = space("spread", OUTER**2, rows.shape[1], channels).zero_()
    for some in parts(reads.shape[1]):
        tiles = _transformed_reads(inputs, rows, reads[:, some], space)
        there = space("first", OUTER**2, tiles.shape[1], channels)
        torch.mm(outputs, blocks[:, some].flatten(1), out=there.flatten(1))
        total.baddbmm_(tiles.transpose(1, 2), there)
    taps = _on_tiles(_KERNEL, rows).T @ total.flatten(1)
    return taps.view(3, 3, -1, channels).permute(3, 2, 0, 1).contiguous()


def _on_tiles(matrix: tuple[tuple[float, ...], ...], like: Tensor) -> Tensor:
    """What multiplies tiles by a matrix from the left and by its transpose from the right.

    A tile is a column of its positions, row by row.
    """
    one_way = like.new_tensor(matrix)
    return torch.kron(one_way, one_way)


class WinogradTower(nn.Module):
    """3x3 convolutions of stride 1 and padding 1 with ReLUs between them, for inference.

    convolutions: whose weights are taken over.
    """

    def __init__(self, convolutions: Sequence[nn.Conv2d]) -> None:
        super().__init__()
        self.layers = len(convolutions)
        for number, convolution in enumerate(convolutions):
            bias = convolution.bias
            spread = spread_kernel(convolution.weight.detach())
            self.register_buffer(f"spread{number}", spread)
            self.register_buffer(f"bias{number}", None if bias is None else bias.detach())

    @torch.no_grad()
    def forward(self, rows: Tensor, needed: Sequence[Tiles]) -> Tensor:
        """rows: (rows + 1, C). needed: what each layer has to write, see ``Tiles.leading_to``.

        Returns (rows + 1, K), zeros where the last layer had nothing to write.
        """
        space = Workspace(rows)
        tiles = [needed[0], *needed]  # none, before the first
        for number in range(self.layers):
            spread, bias = getattr(self, f"spread{number}"), getattr(self, f"bias{number}")
            reads, is_last = _reads(tiles, number), number == self.layers - 1
            name = "an even layer" if number % 2 else "an odd layer"
            out = space(name, INNER**2 * reads.shape[1] + 1, spread.shape[2])
            rows = convolve(rows, reads, spread, bias, out, space, relu=not is_last)
        return rows.index_select(0, needed[-1].places)


class WinogradConv2d(WinogradTower):
    """A single one for a single map, in the place of an ``nn.Conv2d``."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__([convolution])

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """x: float32 (B, C, H, W). Returns (B, K, H, W), channels last."""
        rows, tiles = as_rows([x])
        return _as_map(super().forward(rows, [tiles]), x)


class TrainableWinogradConv2d(nn.Conv2d):
    """A 3x3 convolution of stride 1 and padding 1 that trains with fewer multiplications on a CPU.

    In float32, that is; elsewhere, and in evaluation mode, it is what it inherits from.
    """

    @classmethod
    def sharing(cls, convolution: nn.Conv2d) -> TrainableWinogradConv2d:
        """With the weights of a convolution that is ``replaceable``."""
        return sharing_weights(cls, convolution, padding=1)

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
    """Whether ``WinogradTower`` computes the same as this module."""
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
