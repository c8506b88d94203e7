"""3x3 convolutions with a quarter of the multiplications, over several maps at once.

Winograd's minimal filtering F(4x4, 3x3): Lavin and Gray, https://arxiv.org/abs/1509.09308. A tile
of 6x6 inputs gives 4x4 outputs with 36 products a pair of channels, where 144 are usual.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.cpu.tiles import OUTER, parts
from model.cpu.tower import Layer, Tower, Workspace, blocks_of

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

# What autograd calls for a ReLU: the first argument where the second is positive, and zeros.
threshold_backward = torch.ops.aten.threshold_backward.grad_input


def spread_kernel(weight: Tensor, out: Tensor | None = None) -> Tensor:
    """weight: (K, C, 3, 3). Returns (36, C, K), what a tile is multiplied by."""
    taps = weight.permute(2, 3, 1, 0).reshape(9, -1)
    flat = None if out is None else out.flatten(1)
    spread = torch.mm(_on_tiles(_KERNEL, weight), taps, out=flat)
    return spread.view(OUTER**2, weight.shape[1], weight.shape[0])


def convolve(
    rows: Tensor,
    reads: Tensor,
    layer: Layer,
    out: Tensor,
    space: Workspace,
    where: Tensor | None = None,
) -> Tensor:
    """rows: (rows + 1, C), the last one zero. reads: (36, T), rows. layer: with a spread kernel.

    Fills out, (16 T + 1, K), in the order in which the tiles write, with zeros at the end, and
    returns it. where: like out, the result is zero where it is not positive. Overwrites "first" and
    "second" of the space. No gradients: for those, see ``trainable_tower``.
    """
    inputs, outputs = _on_tiles(_INPUT, rows), _on_tiles(_OUTPUT, rows)
    blocks = blocks_of(out)
    for some in parts(reads.shape[1]):
        tiles = transformed_reads(inputs, rows, reads[:, some], space)
        products = space("first", OUTER**2, tiles.shape[1], out.shape[1])
        torch.bmm(tiles, layer.kernel, out=products)
        if layer.bias is not None:
            products[_REACHES_ALL] += layer.bias
        results = blocks[:, some]
        torch.mm(outputs, products.flatten(1), out=results.flatten(1))
        if layer.relu:
            results.relu_()
        if where is not None:
            threshold_backward(results, blocks_of(where)[:, some], 0, grad_input=results)
    out[-1] = 0
    return out


def transformed_reads(matrix: Tensor, rows: Tensor, reads: Tensor, space: Workspace) -> Tensor:
    """matrix: (36, 36). reads: (36, T). Returns (36, T, C), which is "second" of the space."""
    shape = *reads.shape, rows.shape[1]
    gathered, transformed = space("first", *shape), space("second", *shape)
    torch.index_select(rows, 0, reads.flatten(), out=gathered.flatten(0, 1))
    torch.mm(matrix, gathered.flatten(1), out=transformed.flatten(1))
    return transformed


def weight_gradient(rows: Tensor, reads: Tensor, gradient: Tensor, space: Workspace) -> Tensor:
    """The steps of ``convolve`` and ``spread_kernel`` backwards.

    rows: (rows + 1, C). reads: (36, T). gradient: (16 T + 1, K), of what ``convolve`` filled.
    Returns (K, C, 3, 3). Overwrites "first", "second" and "spread" of the space.
    """
    inputs, outputs = _on_tiles(_INPUT, rows), _on_tiles(_OUTPUT, rows).T
    channels, blocks = gradient.shape[1], blocks_of(gradient)
    total = space("spread", OUTER**2, rows.shape[1], channels).zero_()
    for some in parts(reads.shape[1]):
        tiles = transformed_reads(inputs, rows, reads[:, some], space)
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


class WinogradTower(Tower):
    """In float32, and faster."""

    def _kernel(self, weight: Tensor) -> Tensor:
        return spread_kernel(weight)

    def _convolve(
        self, rows: Tensor, reads: Tensor, layer: Layer, out: Tensor, space: Workspace
    ) -> None:
        convolve(rows, reads, layer, out, space)
