"""Image files to upright RGB, and what can be known of them before training opens them."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from data.image_files.decode import (
    Size,
    decode_rgb,
    drawn_on_stored,
    header_tells_all,
    open_image,
    orientation_of,
    upright_size,
)
from utils.errors import UserError, first_line

# Pixels, 4 to 10 bytes each once decoded. Images of more are decoded one after the other, in a
# thread of their own: an allocator keeps memory for each thread that used it.
LARGE_IMAGE = 25_000_000
PIXELS_HASHED_AT_ONCE = 2**18
GRADIENTS = (17, 16)  # width, height; 16 x 16 differences of neighbours


@dataclass(frozen=True)
class ImageProbe:
    """What is known of an image file.

    size: (width, height) as training sees it, None where it cannot be read. stored: of the file's
    own pixels, before EXIF's rotation. orientation: EXIF's, 1 is upright. error: why it cannot be
    read. digest: equal for equal pixels, and empty unless they were decoded. gradients: uint64
    (4,), 256 signs of differences, alike for images that look alike, None unless the pixels were
    decoded; contrast: standard deviation of grey values, 0 to 255; where it is low, the gradients
    are noise.
    """

    path: Path
    size: Size | None
    stored: Size | None = None
    orientation: int = 1
    error: str = ""
    digest: bytes = b""
    gradients: np.ndarray | None = field(default=None, repr=False, compare=False)
    contrast: float = 0.0

    @property
    def upright(self) -> Size | None:
        """(width, height) after EXIF's rotation."""
        return upright_size(self.stored, self.orientation) if self.stored else None


def read_image(path: Path, annotated_size: Size | None = None) -> Image.Image:
    """An image file as PIL RGB, the right way up.

    The EXIF orientation is applied, unless the annotation's (width, height) is that of the stored
    pixels and not that of the upright ones: then the boxes were drawn on the stored pixels, and
    those are returned. Raises UserError naming the file.
    """
    try:
        # What Pillow warns of (a large image, odd EXIF data) does not keep it from being seen.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_image(path) as stored:
                image = decode_rgb(stored, annotated_size)
                return image.copy() if image is stored else image  # without ties to the file
    except FileNotFoundError:
        raise UserError(
            f"{path}: the image is missing; restore it or remove it from the annotations."
        ) from None
    except Exception as error:  # Pillow's readers raise many types at damaged files
        raise UserError(
            f"{path}: {why_unreadable(error, path)}; replace it or remove it from the data set."
        ) from error


def why_unreadable(error: Exception, path: Path | None) -> str:
    """What keeps an image from being read, in words, without its path."""
    if isinstance(error, UnidentifiedImageError):
        if path is not None and os.path.getsize(path) == 0:
            return "the file is empty"
        return "not an image in any format that is read"
    if isinstance(error, Image.DecompressionBombError):
        limit = f"{max_megapixels():g} megapixels, the limit against decompression bombs"
        return f"larger than {limit} (--max-megapixels raises it)"
    strerror = error.strerror if isinstance(error, OSError) else None
    return f"the image cannot be read ({strerror or first_line(error)})"


def max_megapixels() -> float:
    """The largest image that is decoded."""
    return 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6


def allow_megapixels(megapixels: float) -> None:
    """Set that limit for this process. Pillow warns at half of it and refuses beyond."""
    Image.MAX_IMAGE_PIXELS = round(megapixels * 1e6 / 2)


def probe(
    path: Path,
    annotated_size: Size | None = None,
    *,
    decode: bool = False,
    for_large: ThreadPoolExecutor | None = None,
) -> ImageProbe:
    """What an image file holds; an unreadable one has an ``error``.

    Only the header and how the file ends are read, unless these leave doubt or ``decode`` is true.
    for_large: the pool that decodes large images; without it they are decoded here.
    """
    stored_size = None
    orientation = 1
    try:
        with open_image(path) as stored:
            stored_size, orientation = stored.size, orientation_of(stored)
            if not decode and header_tells_all(path, stored.format):
                as_stored = drawn_on_stored(annotated_size, stored_size, orientation)
                size = stored_size if as_stored else upright_size(stored_size, orientation)
                return ImageProbe(path, size, stored_size, orientation)
        if for_large is not None and stored_size[0] * stored_size[1] > LARGE_IMAGE:
            return for_large.submit(_probe_pixels, path, annotated_size, stored_size).result()
        return _probe_pixels(path, annotated_size, stored_size)
    except FileNotFoundError:
        return ImageProbe(path, None, error="the file is missing")
    except Exception as error:
        return ImageProbe(path, None, stored_size, orientation, why_unreadable(error, path))


def probe_all(
    files: Iterable[tuple[Path, Size | None]],
    *,
    decode: bool = False,
    progress: Callable[[int], None] | None = None,
) -> list[ImageProbe]:
    """``probe`` for many files, in their order, on as many threads as there are processors.

    Pillow decodes outside of Python's lock; large images come one at a time, for their memory.
    progress is called with the number of files done.
    """
    probes = []
    pool, one_thread = ThreadPoolExecutor(processors()), ThreadPoolExecutor(1)
    # Filters of warnings belong to the whole process: they are set here, not in the threads.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for result in pool.map(
                lambda file: probe(*file, decode=decode, for_large=one_thread), files
            ):
                probes.append(result)
                if progress is not None:
                    progress(len(probes))
        finally:
            pool.shutdown(cancel_futures=True)
            one_thread.shutdown()
    return probes


def processors() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _probe_pixels(path: Path, annotated_size: Size | None, stored_size: Size) -> ImageProbe:
    with open_image(path) as stored:
        image = decode_rgb(stored, annotated_size)
        orientation = orientation_of(stored)
    gradients, contrast = _appearance(image)
    digest = _digest(image)
    return ImageProbe(path, image.size, stored_size, orientation, "", digest, gradients, contrast)


def _digest(image: Image.Image) -> bytes:
    """Of size and pixels, without a second copy of all of them."""
    width, height = image.size
    sides = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    digest = hashlib.blake2b(digest_size=16, person=sides)
    rows = max(1, PIXELS_HASHED_AT_ONCE // width)
    for top in range(0, height, rows):
        digest.update(image.crop((0, top, width, min(top + rows, height))).tobytes())
    return digest.digest()


def _appearance(image: Image.Image) -> tuple[np.ndarray, float]:
    """Signs of the differences of neighbours in a tiny copy (dHash), and its contrast."""
    tiny = np.asarray(image.convert("L").resize(GRADIENTS, Image.Resampling.BOX), dtype=np.int16)
    bits = np.packbits(tiny[:, 1:] > tiny[:, :-1])
    return bits.view(np.uint64), float(tiny.std())
