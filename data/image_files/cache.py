"""Decoded images that stay in memory, for all processes of a loader."""

from __future__ import annotations

import math
import mmap
import multiprocessing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from data.image_files.decode import Size
from data.image_files.read import read_image


def read_pixels(path: Path, annotated_size: Size | None = None) -> Tensor:
    """uint8 (3, H, W), the right way up. Raises UserError naming the file, see ``read_image``."""
    return F.pil_to_tensor(read_image(path, annotated_size))


class ImageCache:
    """``pixels`` reads an image on the first request, and keeps it.

    Processes that are forked, as a loader's are on Linux, share one memory, and what one of them
    has decoded the others find. A process that is started anew (Windows, macOS) decodes each time.
    The memory is not in /dev/shm, of which a container has little; on Linux it is taken as it is
    filled. Raises OSError where the system gives none.

    images: each image's path with its (width, height) as training sees it. An image that turns out
    to be of another size, or that is not among them, is read each time.
    """

    def __init__(self, images: Iterable[tuple[Path, Size]]) -> None:
        self._place: dict[tuple[Path, Size], int] = {}
        end = 0
        for path, size in dict.fromkeys(images):
            self._place[path, size] = end
            end += _bytes(size)
        self._memory = mmap.mmap(-1, max(1, end))

    def pixels(self, path: Path, size: Size | None) -> Tensor:
        """As ``read_pixels``; a copy that belongs to the caller."""
        place = self._place.get((path, size)) if size else None
        if place is None or size is None:
            return read_pixels(path, size)
        width, height = size
        rows = torch.frombuffer(
            self._memory, dtype=torch.uint8, count=3 * width * height, offset=place + 1
        ).view(height, width, 3)
        if self._memory[place]:
            return rows.clone().permute(2, 0, 1)
        pixels = read_pixels(path, size)
        if pixels.shape == (3, height, width):
            rows.copy_(pixels.permute(1, 2, 0))
            # Set last, so that a process that sees the mark finds a complete image.
            self._memory[place] = 1
        return pixels

    def __getstate__(self) -> dict[str, Any]:
        return {"_place": {}}


def bytes_in_memory(images: Iterable[tuple[Path, Size]]) -> int:
    """What ``ImageCache`` takes for these images once it is full."""
    return sum(_bytes(size) for _, size in set(images))


def is_shared_with_workers() -> bool:
    """Whether the processes of a loader are forked, and so share what was decoded."""
    return multiprocessing.get_start_method() == "fork"


def _bytes(size: Size) -> int:
    return 1 + 3 * math.prod(size)  # the first one says whether the image is there
