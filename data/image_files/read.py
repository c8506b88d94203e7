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
    open_picture,
    orientation,
    turned,
)
from utils.errors import UserError, first_line

# Pixels, 4 to 10 bytes each once decoded. Pictures of more are decoded one after the other, in a
# thread of their own: an allocator keeps for each thread what it gave back.
LARGE_PICTURE = 25_000_000
PIXELS_HASHED_AT_ONCE = 2**18
GRADIENTS = (17, 16)  # width, height; 16 x 16 differences of neighbours


@dataclass(frozen=True)
class Picture:
    """What is known of an image file.

    size: (width, height) as training sees it, None where it cannot be read. stored: of the file's
    own pixels, before EXIF's turn. orientation: EXIF's, 1 is upright. error: why it cannot be
    read. digest: equal for equal pixels, and empty unless they were decoded. gradients: uint64
    (4,), 256 signs of differences, alike for pictures that look alike, None unless the pixels were
    decoded; contrast: standard deviation of grey values, 0 to 255, that tells if they mean much.
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
        """(width, height) after EXIF's turn."""
        return turned(self.stored, self.orientation) if self.stored else None


def read_image(path: Path, annotated_size: Size | None = None) -> Image.Image:
    """An image file as PIL RGB, the right way up.

    The EXIF orientation is applied, unless the annotation's (width, height) is that of the stored
    pixels and not that of the upright ones: then the boxes were drawn on the stored pixels, and
    those are returned. Raises UserError naming the file.
    """
    try:
        # What Pillow warns of (a large picture, odd EXIF data) does not keep it from being seen.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_picture(path) as stored:
                image = decode_rgb(stored, annotated_size)
                return image.copy() if image is stored else image  # without ties to the file
    except FileNotFoundError:
        raise UserError(
            f"{path}: the image is missing; restore it or remove it from the annotations."
        ) from None
    except Exception as error:  # Pillow's readers raise of all kinds at damaged files
        raise UserError(
            f"{path}: {why_unreadable(error, path)}; replace it or remove it from the data set."
        ) from error


def why_unreadable(error: Exception, path: Path | None) -> str:
    """What keeps a picture from being read, in words, without its path."""
    if isinstance(error, UnidentifiedImageError):
        if path is not None and os.path.getsize(path) == 0:
            return "the file is empty"
        return "not a picture in any format that is read"
    if isinstance(error, Image.DecompressionBombError):
        return (
            f"larger than {max_megapixels():g} megapixels, the limit against decompression bombs "
            "(--max-megapixels raises it)"
        )
    strerror = error.strerror if isinstance(error, OSError) else None
    return f"the image cannot be read ({strerror or first_line(error)})"


def max_megapixels() -> float:
    """The largest picture that is decoded."""
    return 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6


def allow_megapixels(megapixels: float) -> None:
    """Set that limit for this process. Pillow warns at half of it and refuses beyond."""
    Image.MAX_IMAGE_PIXELS = round(megapixels * 1e6 / 2)


def look_at(path: Path, annotated_size: Size | None = None, *, decode: bool = False) -> Picture:
    """What an image file holds; an unreadable one is a ``Picture`` with an ``error``.

    Only the header and how the file ends are read, unless these leave doubt or ``decode`` is true.
    """
    return _look_at(path, annotated_size, decode, None)


def look_at_all(
    wanted: Iterable[tuple[Path, Size | None]],
    *,
    decode: bool = False,
    progress: Callable[[int], None] | None = None,
) -> list[Picture]:
    """``look_at`` for many files, in their order, on as many threads as there are processors.

    Pillow decodes outside of Python's lock; large pictures come one at a time, for their memory.
    progress is called with the number of files done.
    """
    pictures = []
    pool, one_thread = ThreadPoolExecutor(processors()), ThreadPoolExecutor(1)
    # Filters of warnings belong to the whole process: they are set here, not in the threads.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for picture in pool.map(
                lambda one: _look_at(one[0], one[1], decode, one_thread), wanted
            ):
                pictures.append(picture)
                if progress is not None:
                    progress(len(pictures))
        finally:
            pool.shutdown(cancel_futures=True)
            one_thread.shutdown()
    return pictures


def processors() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _look_at(
    path: Path, annotated_size: Size | None, decoding: bool, for_large: ThreadPoolExecutor | None
) -> Picture:
    stored_size = None
    turn = 1
    try:
        with open_picture(path) as stored:
            stored_size, turn = stored.size, orientation(stored)
            if not decoding and header_tells_all(path, stored.format):
                as_stored = drawn_on_stored(annotated_size, stored_size, turn)
                size = stored_size if as_stored else turned(stored_size, turn)
                return Picture(path, size, stored_size, turn)
        if for_large is not None and stored_size[0] * stored_size[1] > LARGE_PICTURE:
            return for_large.submit(_look_at_pixels, path, annotated_size, stored_size).result()
        return _look_at_pixels(path, annotated_size, stored_size)
    except Exception as error:
        return Picture(path, None, stored_size, turn, _reason(error, path))


def _look_at_pixels(path: Path, annotated_size: Size | None, stored_size: Size) -> Picture:
    with open_picture(path) as stored:
        image = decode_rgb(stored, annotated_size)
        turn = orientation(stored)
    gradients, contrast = _looks(image)
    return Picture(path, image.size, stored_size, turn, "", _digest(image), gradients, contrast)


def _digest(image: Image.Image) -> bytes:
    """Of size and pixels, without a second copy of all of them."""
    width, height = image.size
    digest = hashlib.blake2b(digest_size=16, person=_sides(image.size))
    rows = max(1, PIXELS_HASHED_AT_ONCE // width)
    for top in range(0, height, rows):
        digest.update(image.crop((0, top, width, min(top + rows, height))).tobytes())
    return digest.digest()


def _looks(image: Image.Image) -> tuple[np.ndarray, float]:
    """Signs of the differences of neighbours in a tiny picture (dHash), and its contrast."""
    tiny = np.asarray(image.convert("L").resize(GRADIENTS, Image.Resampling.BOX), dtype=np.int16)
    bits = np.packbits(tiny[:, 1:] > tiny[:, :-1])
    return bits.view(np.uint64), float(tiny.std())


def _sides(size: Size) -> bytes:
    return size[0].to_bytes(4, "big") + size[1].to_bytes(4, "big")


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, FileNotFoundError):
        return "the file is missing"
    return why_unreadable(error, path)
