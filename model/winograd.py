"""3x3 convolutions with a quarter of the multiplications, over several maps at once.

Winograd's minimal filtering F(4x4, 3x3): Lavin and Gray, https://arxiv.org/abs/1509.09308. A tile
of 6x6 inputs gives 4x4 outputs with 36 products a pair of channels, where 144 are usual.

The maps of a batch lie in one matrix, a row a location and a column a channel, with a row of zeros
at the end. What a tile reads beyond the edge of its map is that last row, and so the small maps of
a pyramid share the matrix products of the large ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
INNER, OUTER = 4, 6  # sides of a tile: what it writes and what it reads
TILES_AT_ONCE = 256  # their buffers take 10 MB each at 256 channels


class Tiles(NamedTuple):
    """Where tiles read and write in a matrix of ``rows`` locations and a last row of zeros.

    reads: int64 (36, T). writes: int64 (16, T). Locations outside a map are ``rows``.
    """

    reads: Tensor
    writes: Tensor
    rows: int

    def parts(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Reads and writes of some tiles at a time."""
        for start in range(0, self.reads.shape[1], TILES_AT_ONCE):
            some = slice(start, start + TILES_AT_ONCE)
            yield self.reads[:, some], self.writes[:, some]

    def around(self, wanted: Tensor) -> Tensor:
        """wanted: bool (rows + 1,), locations. Returns them and their eight neighbours."""
        seen = wanted[self.reads].view(OUTER, OUTER, -1).permute(2, 0, 1).float()
        near = F.max_pool2d(seen, kernel_size=3, stride=1).bool().flatten(1).T
        found = torch.zeros_like(wanted)
        found[self.writes] = near
        found[-1] = False
        return found

    def writing(self, wanted: Tensor) -> Tiles:
        """Only the tiles that write any of the locations wanted: bool (rows + 1,)."""
        used = wanted[self.writes].any(dim=0)
        return Tiles(self.reads[:, used], self.writes[:, used], self.rows)


@lru_cache(maxsize=8)
def tiles_of(batch: int, shapes: tuple[tuple[int, int], ...]) -> Tiles:
    """All tiles of a batch's maps. shapes: (height, width) of each level, as in ``as_rows``."""
    # A table made during an inference may be asked for again by a training.
    with torch.inference_mode(False):
        rows = batch * sum(height * width for height, width in shapes)
        reads, writes, start = [], [], 0
        for height, width in shapes * batch:
            down, across = -(-height // INNER), -(-width // INNER)
            seen = torch.full((INNER * down + 2, INNER * across + 2), rows)
            here = torch.arange(start, start + height * width).view(height, width)
            seen[1 : height + 1, 1 : width + 1] = here
            inner = seen[1:-1, 1:-1]
            reads.append(seen.unfold(0, OUTER, INNER).unfold(1, OUTER, INNER))
            writes.append(inner.unfold(0, INNER, INNER).unfold(1, INNER, INNER))
            start += height * width
        read, written = (
            torch.cat([part.permute(2, 3, 0, 1).reshape(side**2, -1) for part in parts], dim=1)
            for parts, side in ((reads, OUTER), (writes, INNER))
        )
        return Tiles(read, written, rows)


def as_rows(maps: Sequence[Tensor]) -> tuple[Tensor, Tiles]:
    """The matrix of some maps, each (B, C, H, W): (rows + 1, C), by image, level, then location."""
    batch, channels = maps[0].shape[:2]
    parts = [m.permute(0, 2, 3, 1).reshape(batch, -1, channels) for m in maps]
    rows = torch.cat(parts, dim=1).view(-1, channels)
    shapes = tuple((m.shape[2], m.shape[3]) for m in maps)
    return torch.cat([rows, rows.new_zeros(1, channels)]), tiles_of(batch, shapes)


def spread_kernel(weight: Tensor) -> Tensor:
    """weight: (K, C, 3, 3). Returns (36, C, K), what a tile is multiplied by."""
    kernel = weight.new_tensor(_KERNEL)
    return torch.einsum("ij,ocjk,lk->ilco", kernel, weight, kernel).flatten(0, 1).contiguous()


def convolve(rows: Tensor, tiles: Tiles, spread: Tensor, bias: Tensor | None) -> Tensor:
    """rows: float32 (rows + 1, C), spread: (36, C, K). Returns (rows + 1, K).

    Zeros where no tile writes. No gradients: for those, ``trainable_convolution``.
    """
    inputs, outputs = rows.new_tensor(_INPUT), rows.new_tensor(_OUTPUT)
    out = rows.new_zeros(len(rows), spread.shape[2])
    for reads, writes in tiles.parts():
        products = torch.bmm(_seen(rows, reads, inputs), spread)
        results = _both_ways(outputs, products).view(-1, products.shape[2])
        if bias is not None:
            results += bias
        out.index_copy_(0, writes.flatten(), results)
    out[-1] = 0
    return out


def trainable_convolution(rows: Tensor, tiles: Tiles, convolution: nn.Conv2d) -> Tensor:
    """``convolve`` with all tiles, with gradients for the rows and the convolution's weights."""
    return _Convolution.apply(rows, convolution.weight, convolution.bias, tiles)


class _Convolution(torch.autograd.Function):
    """Keeps its input alone for the way back: the tiles would be more than twice as much."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, tiles: Tiles
    ) -> Tensor:
        ctx.save_for_backward(rows, weight)
        ctx.tiles = tiles
        return convolve(rows, tiles, spread_kernel(weight), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients  # its last row is zero, as that of what follows is
        rows, weight = ctx.saved_tensors
        needs_rows, needs_weight, needs_bias, _ = ctx.needs_input_grad
        of_rows = of_weight = None
        if needs_rows:
            # What a location gave to its neighbours comes back from them: the kernel turned round.
            back = spread_kernel(weight.flip(2, 3).transpose(0, 1))
            of_rows = convolve(gradient, ctx.tiles, back, None)
        if needs_weight:
            of_weight = _weight_gradient(rows, gradient, ctx.tiles)
        return of_rows, of_weight, gradient.sum(dim=0) if needs_bias else None, None


def _weight_gradient(rows: Tensor, gradient: Tensor, tiles: Tiles) -> Tensor:
    """The steps of ``convolve`` and ``spread_kernel`` backwards, as a (K, C, 3, 3) sees them."""
    inputs, outputs, kernel = (rows.new_tensor(m) for m in (_INPUT, _OUTPUT, _KERNEL))
    total = rows.new_zeros(OUTER**2, rows.shape[1], gradient.shape[1])
    for reads, writes in tiles.parts():
        there = gradient.index_select(0, writes.flatten())
        spread = _both_ways(outputs.T, there).view(*reads.shape, -1)
        total.baddbmm_(_seen(rows, reads, inputs).transpose(1, 2), spread)
    return torch.einsum("ij,ilco,lk->ocjk", kernel, total.unflatten(0, (OUTER, OUTER)), kernel)


def _seen(rows: Tensor, reads: Tensor, inputs: Tensor) -> Tensor:
    """The tiles as they are multiplied: (36, T, C)."""
    return _both_ways(inputs, rows.index_select(0, reads.flatten())).view(*reads.shape, -1)


def _both_ways(matrix: Tensor, tiles: Tensor) -> Tensor:
    """Multiplies each tile by a matrix (n, m) from the left and its transpose from the right.

    tiles: m x m positions in row order times anything. Returns (n, n, anything).
    """
    side = matrix.shape[1]
    columns = matrix @ tiles.reshape(side, -1)
    return matrix @ columns.view(len(matrix), side, -1)


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
        out = convolve(rows, tiles, self.spread, self.bias)
        return out.relu_() if self.relu else out


class WinogradConv2d(WinogradConv):
    """The same for a single map, in the place of an ``nn.Conv2d``."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """x: float32 (B, C, H, W). Returns (B, K, H, W), channels last."""
        rows, tiles = as_rows([x])
        batch, _, height, width = x.shape
        out = super().forward(rows, tiles)[:-1]
        return out.view(batch, height, width, -1).permute(0, 3, 1, 2)


def replaceable(module: nn.Module) -> bool:
    """Whether ``WinogradConv`` computes the same as this module."""
    return (
        type(module) is nn.Conv2d
        and module.kernel_size == (3, 3)
        and module.stride == (1, 1)
        and module.padding == (1, 1)
        and module.dilation == (1, 1)
        and module.groups == 1
        and module.padding_mode == "zeros"
    )
