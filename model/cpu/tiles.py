"""Maps of any shapes in one matrix, and the tiles that a convolution reads and writes there.

The maps of a batch lie in one matrix with one row per location and one column per channel; its last
row is zero and stands for the padding around every map. So the small maps of a pyramid share the
matrix products of the large ones.

Between the layers of a tower the rows lie in *tile order*: the 16 locations that each tile writes,
and again a last row of zeros. Tiles reach beyond the edges of their maps; the rows that they write
there are padding too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

INNER, OUTER = 4, 6  # sides of a tile: what it writes and what it reads
TILES_AT_ONCE = 128  # a buffer takes 5 MB at 256 channels, more is no faster


@dataclass(frozen=True, eq=False)
class Tiles:
    """What T tiles read and write in a matrix of ``rows`` locations and a last row of zeros.

    reads: int64 (36, T). writes: int64 (16, T). Locations outside a map are ``rows``.
    """

    reads: Tensor
    writes: Tensor
    rows: int

    @cached_property
    @torch.inference_mode(False)  # the table is kept, and training may need it later
    def to_tile_order(self) -> Tensor:
        """int64 (16 T + 1,), the gather index that brings a matrix of the maps into tile order."""
        return torch.cat([self.writes.flatten(), self.writes.new_tensor([self.rows])])

    @cached_property
    @torch.inference_mode(False)
    def to_map_order(self) -> Tensor:
        """int64 (rows + 1,), the gather index back to map order.

        Locations that no tile writes point at the row of zeros.
        """
        zeros = len(self.to_tile_order) - 1
        index = self.to_tile_order.new_full((self.rows + 1,), zeros)
        index[self.to_tile_order] = torch.arange(zeros + 1, device=index.device)
        index[-1] = zeros  # not one of the padding rows that tiles write
        return index

    @cached_property
    @torch.inference_mode(False)
    def padding_rows(self) -> Tensor:
        """int64 (n,), the rows in tile order that are padding, the last one included."""
        return (self.to_tile_order == self.rows).nonzero().flatten()

    def reads_from(self, before: Tiles) -> Tensor:
        """int64 (36, T), what is read of the layer before, which lies in its tile order."""
        return before.to_map_order[self.reads]

    def around(self, locations: Tensor) -> Tensor:
        """locations: bool (rows + 1,). Returns them and their eight neighbours, likewise."""
        read = locations[self.reads].view(OUTER, OUTER, -1).permute(2, 0, 1).float()
        in_reach = F.max_pool2d(read, kernel_size=3, stride=1).bool().flatten(1).T
        dilated = torch.zeros_like(locations)
        dilated[self.writes] = in_reach
        dilated[-1] = False
        return dilated

    def writing(self, locations: Tensor) -> Tiles:
        """Only the tiles that write any of the locations: bool (rows + 1,)."""
        used = locations[self.writes].any(dim=0)
        return Tiles(self.reads[:, used], self.writes[:, used], self.rows)

    def leading_to(self, locations: Tensor, layers: int) -> list[Tiles]:
        """What the last layer of a tower and each of the ``layers`` before it have to write.

        locations: bool (rows + 1,), those of the last one's output that are needed. A layer reads
        one location further than it writes. In the order of the layers.
        """
        locations = locations.clone()
        locations[-1] = False
        needed = [self.writing(locations)]
        for _ in range(layers):
            locations = self.around(locations)
            needed.insert(0, self.writing(locations))
        return needed


def parts(tiles: int) -> Iterator[slice]:
    """Slices of at most ``TILES_AT_ONCE`` tiles."""
    for start in range(0, tiles, TILES_AT_ONCE):
        yield slice(start, start + TILES_AT_ONCE)


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def tiles_of(batch: int, shapes: tuple[tuple[int, int], ...]) -> Tiles:
    """All tiles of a batch's maps. shapes: (height, width) of each level, as in ``as_rows``."""
    rows = batch * sum(height * width for height, width in shapes)
    reads, writes, start = [], [], 0
    for height, width in shapes * batch:
        down, across = -(-height // INNER), -(-width // INNER)
        padded = torch.full((INNER * down + 2, INNER * across + 2), rows)
        locations = torch.arange(start, start + height * width).view(height, width)
        padded[1 : height + 1, 1 : width + 1] = locations
        reads.append(_windows(padded, OUTER))
        writes.append(_windows(padded[1:-1, 1:-1], INNER))
        start += height * width
    return Tiles(torch.cat(reads, dim=1), torch.cat(writes, dim=1), rows)


def _windows(locations: Tensor, side: int) -> Tensor:
    """(side², T): the square windows, ``INNER`` apart."""
    windows = locations.unfold(0, side, INNER).unfold(1, side, INNER)
    return windows.permute(2, 3, 0, 1).reshape(side**2, -1)


def as_rows(maps: Sequence[Tensor]) -> tuple[Tensor, Tiles]:
    """The matrix (rows + 1, C) of a batch's maps, (B, C, H, W) each, and all of their tiles.

    By image, level, then location.
    """
    batch, channels = maps[0].shape[:2]
    by_level = [m.permute(0, 2, 3, 1).flatten(1, 2).unbind() for m in maps]
    by_image = [rows for image in zip(*by_level, strict=True) for rows in image]
    shapes = tuple((m.shape[2], m.shape[3]) for m in maps)
    return torch.cat([*by_image, maps[0].new_zeros(1, channels)]), tiles_of(batch, shapes)
