"""3x3 convolutions with a quarter of the multiplications, over several maps at once.

Winograd's minimal filtering F(4x4, 3x3): Lavin and Gray, https://arxiv.org/abs/1509.09308. A tile
of 6x6 inputs gives 4x4 outputs with 36 products a pair of channels, where 144 are usual.

The maps of a batch lie in one matrix, a row a location and a column a channel, with a row of zeros
at the end. What a tile reads beyond the edge of its map is that last row, and so the small maps of
a pyramid share the matrix products of the large ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

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


class WinogradConv(nn.Module):
    """A 3x3 convolution of stride 1 and padding 1, for inference in float32.

    convolution: whose weights are taken over. relu: whether a ReLU follows.
    """

    weight: Tensor
    bias: Tensor | None
    inputs: Tensor
    outputs: Tensor

    def __init__(self, convolution: nn.Conv2d, *, relu: bool = False) -> None:
        super().__init__()
        self.relu = relu
        kernel = torch.tensor(_KERNEL, dtype=torch.float64)
        weight = convolution.weight.detach().double().cpu()
        spread = torch.einsum("ij,ocjk,lk->ilco", kernel, weight, kernel)
        bias = convolution.bias
        self.register_buffer("weight", spread.flatten(0, 1).float().contiguous())
        self.register_buffer("bias", None if bias is None else bias.detach().float())
        for name, matrix in (("inputs", _INPUT), ("outputs", _OUTPUT)):
            self.register_buffer(name, torch.tensor(matrix, dtype=torch.float32))

    def forward(self, rows: Tensor, tiles: Tiles) -> Tensor:
        """rows: float32 (rows + 1, C). Returns (rows + 1, K), zeros where no tile writes."""
        out = rows.new_zeros(len(rows), self.weight.shape[2])
        parts = (t.split(TILES_AT_ONCE, dim=1) for t in (tiles.reads, tiles.writes))
        for reads, writes in zip(*parts, strict=True):
            if reads.numel():
                out.index_copy_(0, writes.flatten(), self._tiles(rows, reads))
        out[-1] = 0
        return out

    def _tiles(self, rows: Tensor, reads: Tensor) -> Tensor:
        seen = rows.index_select(0, reads.flatten())
        spread = _both_ways(self.inputs, seen).view(*reads.shape, -1)
        products = torch.bmm(spread, self.weight)
        results = _both_ways(self.outputs, products).view(-1, products.shape[2])
        if self.bias is not None:
            results += self.bias
        return results.relu_() if self.relu else results


def _both_ways(matrix: Tensor, tiles: Tensor) -> Tensor:
    """Multiplies each tile by a matrix (n, 6) from the left and its transpose from the right.

    tiles: 36 positions in row order times anything. Returns (n, n, anything).
    """
    columns = matrix @ tiles.reshape(OUTER, -1)
    return matrix @ columns.view(len(matrix), OUTER, -1)


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
