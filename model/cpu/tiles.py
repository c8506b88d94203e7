"""Maps of any shapes in one matrix, and the tiles that a convolution reads and writes there.

The maps of a batch lie in one matrix, a row a location and a column a channel, with a row of zeros
at the end. What a tile reads beyond the edge of its map is that last row, and so the small maps of
a pyramid share the matrix products of the large ones. Between the layers of a tower the rows lie
as the tiles write them, without a row for what no tile writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

INNER, OUTER = 4, 6  # sides of a tile: what it writes and what it reads
TILES_AT_ONCE = 128  # a buffer takes 5 MB at 256 channels, more is no faster


class Tiles(NamedTuple):
    """Where tiles read and write in a matrix of ``rows`` locations and a last row of zeros.

    reads: int64 (36, T). writes: int64 (16, T). Locations outside a map are ``rows``.
    """

    reads: Tensor
    writes: Tensor
    rows: int

    @property
    def order(self) -> Tensor:
        """int64 (16 T + 1,), the locations in the order in which they are written, then zeros."""
        return torch.cat([self.writes.flatten(), self.writes.new_tensor([self.rows])])

    @property
    def places(self) -> Tensor:
        """int64 (rows + 1,), where ``order`` has each location, and zeros where it does not."""
        order = self.order
        nowhere = len(order) - 1
        places = order.new_full((self.rows + 1,), nowhere)
        places[order] = torch.arange(len(order), device=order.device)
        places[-1] = nowhere  # several tiles may lie partly outside
        return places

    @property
    def outside(self) -> Tensor:
        """int64 (n,), where ``order`` has what is outside of the maps, with its last row."""
        return (self.order == self.rows).nonzero().flatten()

    def reads_from(self, before: Tiles) -> Tensor:
        """What is read of the layer before, whose rows lie in the order of its tiles."""
        return before.places[self.reads]

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

    def leading_to(self, wanted: Tensor, steps: int) -> list[Tiles]:
        """What the last of some layers has to write, and each of the ``steps`` layers before it.

        wanted: bool (rows + 1,), locations of the last. A layer reads a location further than it
        writes. In the order of the layers.
        """
        wanted = wanted.clone()
        wanted[-1] = False
        needed = [self.writing(wanted)]
        for _ in range(steps):
            wanted = self.around(wanted)
            needed.insert(0, self.writing(wanted))
        return needed


def parts(tiles: int) -> Iterator[slice]:
    """Some tiles at a time."""
    for start in range(0, tiles, TILES_AT_ONCE):
        yield slice(start, start + TILES_AT_ONCE)


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
            torch.cat([each.permute(2, 3, 0, 1).reshape(side**2, -1) for each in found], dim=1)
            for found, side in ((reads, OUTER), (writes, INNER))
        )
        return Tiles(read, written, rows)


def as_rows(maps: Sequence[Tensor]) -> tuple[Tensor, Tiles]:
    """The matrix of some maps, each (B, C, H, W): (rows + 1, C), by image, level, then location."""
    batch, channels = maps[0].shape[:2]
    by_level = [m.permute(0, 2, 3, 1).flatten(1, 2).unbind() for m in maps]
    by_image = [rows for image in zip(*by_level, strict=True) for rows in image]
    shapes = tuple((m.shape[2], m.shape[3]) for m in maps)
    return torch.cat([*by_image, maps[0].new_zeros(1, channels)]), tiles_of(batch, shapes)
