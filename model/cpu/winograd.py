"""3x3 convolutions with a quarter of the multiplications, over several maps at once.

Winograd's minimal filtering F(4x4, 3x3): Lavin and Gray, https://arxiv.org/abs/1509.09308. A tile
of 6x6 inputs gives 4x4 outputs with 36 products per pair of channels, where 144 are usual.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from model.cpu.tiles import INNER, OUTER, parts

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
_OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))

# The one of a tile's 36 products that the output transform adds to each of the 16 outputs.
_REACHES_ALL = OUTER + 1

# The gradient of a ReLU: the first argument where the second is positive, and zeros.
threshold_backward = torch.ops.aten.threshold_backward.grad_input


class Layer(NamedTuple):
    """A convolution of C channels to K. kernel: (36, C, K), see ``transformed_kernel``. bias: (K,).

    relu: whether one follows.
    """

    kernel: Tensor
    bias: Tensor | None
    relu: bool


class Workspace:
    """Named buffers that live within one call, allocated once for all layers and all parts.

    A function that gets one may overwrite every buffer but its arguments. Fresh memory for each
    would cost more than half as much time as the products.
    """

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._buffers: dict[str, Tensor] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        """Uninitialised, in dtype and device of ``like``; overwrites the buffer of this name."""
        size = math.prod(shape)
        if name not in self._buffers or len(self._buffers[name]) < size:
            self._buffers[name] = self._like.new_empty(size)
        return self._buffers[name][:size].view(shape)


def transformed_kernel(weight: Tensor, out: Tensor | None = None) -> Tensor:
    """weight: (K, C, 3, 3). Returns (36, C, K), by which transformed tiles are multiplied."""
    taps = weight.permute(2, 3, 1, 0).reshape(9, -1)
    flat = None if out is None else out.flatten(1)
    kernel = torch.mm(_on_tiles(_KERNEL, weight), taps, out=flat)
    return kernel.view(OUTER**2, weight.shape[1], weight.shape[0])


def convolve(
    rows: Tensor,
    reads: Tensor,
    layer: Layer,
    out: Tensor,
    space: Workspace,
    relu_output: Tensor | None = None,
) -> Tensor:
    """rows: (n + 1, C), the last one zero. reads: int64 (36, T), rows.

    Fills out, (16 T + 1, K), in tile order, the last row with zeros, and returns it. relu_output:
    like out, of a ReLU whose gradient is applied to the result. Has no gradient itself: for that,
    see ``trainable_tower``.
    """
    inputs, outputs = _on_tiles(_INPUT, rows), _on_tiles(_OUTPUT, rows)
    blocks = _blocks(out)
    for part in parts(reads.shape[1]):
        tiles = _transformed_tiles(inputs, rows, reads[:, part], space)
        products = space("products", OUTER**2, tiles.shape[1], out.shape[1])
        torch.bmm(tiles, layer.kernel, out=products)
        if layer.bias is not None:
            products[_REACHES_ALL] += layer.bias
        results = blocks[:, part]
        torch.mm(outputs, products.flatten(1), out=results.flatten(1))
        if layer.relu:
            results.relu_()
        if relu_output is not None:
            threshold_backward(results, _blocks(relu_output)[:, part], 0, grad_input=results)
    out[-1] = 0
    return out


def weight_gradient(rows: Tensor, reads: Tensor, gradient: Tensor, space: Workspace) -> Tensor:
    """The gradient of the weight that ``transformed_kernel`` and ``convolve`` were called with.

    rows: (n + 1, C). reads: int64 (36, T). gradient: (16 T + 1, K), of what ``convolve`` filled.
    Returns (K, C, 3, 3), channels last, as models keep their weights: else PyTorch copies it.
    """
    inputs, outputs = _on_tiles(_INPUT, rows), _on_tiles(_OUTPUT, rows).T
    channels, blocks = gradient.shape[1], _blocks(gradient)
    of_kernel = space("kernel", OUTER**2, rows.shape[1], channels).zero_()
    for part in parts(reads.shape[1]):
        tiles = _transformed_tiles(inputs, rows, reads[:, part], space)
        of_products = space("products", OUTER**2, tiles.shape[1], channels)
        torch.mm(outputs, blocks[:, part].flatten(1), out=of_products.flatten(1))
        of_kernel.baddbmm_(tiles.transpose(1, 2), of_products)
    taps = _on_tiles(_KERNEL, rows).T @ of_kernel.flatten(1)
    # Of two dimensions PyTorch transposes block by block, of four it takes several times as long.
    by_output = taps.view(-1, channels).t().contiguous()
    return by_output.view(channels, 3, 3, -1).permute(0, 3, 1, 2)


def _transformed_tiles(matrix: Tensor, rows: Tensor, reads: Tensor, space: Workspace) -> Tensor:
    """matrix: (36, 36). reads: int64 (36, T). Returns (36, T, C)."""
    shape = *reads.shape, rows.shape[1]
    # Gathered tiles are needed no longer when the products are computed.
    gathered, transformed = space("products", *shape), space("tiles", *shape)
    torch.index_select(rows, 0, reads.flatten(), out=gathered.flatten(0, 1))
    torch.mm(matrix, gathered.flatten(1), out=transformed.flatten(1))
    return transformed


def _blocks(rows: Tensor) -> Tensor:
    """rows: (16 T + 1, K), in tile order. Returns (16, T, K), without the last row."""
    return rows[:-1].view(INNER**2, -1, rows.shape[1])


def _on_tiles(matrix: tuple[tuple[float, ...], ...], like: Tensor) -> Tensor:
    """What multiplies tiles by a matrix from the left and by its transpose from the right.

    A tile is a column of its positions, row by row.
    """
    one_way = like.new_tensor(matrix)
    return torch.kron(one_way, one_way)
