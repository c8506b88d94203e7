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
from PIL import ExifTags, Image, UnidentifiedImageError

from utils.errors import UserError, first_line

# EXIF orientation to what undoes it; 1 is upright already.
TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SWAPS_SIDES = frozenset({5, 6, 7, 8})

Size = tuple[int, int]  # width, height

TAIL = 1024  # bytes from a file's end that show whether it is whole
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
        swapped = self.stored is not None and self.orientation in SWAPS_SIDES
        return self.stored[::-1] if swapped and self.stored else self.stored


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
            with Image.open(path) as stored:
                return _to_rgb(_as_drawn(stored, annotated_size))
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
        return "not a picture in any format that Pillow reads"
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

    Only the header and the last bytes are read, unless these leave doubt or ``decode`` is true.
    """
    size = stored_size = None
    orientation = 1
    try:
        with Image.open(path) as stored:
            stored_size = stored.size
            if stored.format not in ("PNG", "JPEG", "MPO") or not _seems_whole(path, stored.format):
                decode = True
            if stored.format != "PNG" or "exif" in stored.info:  # a PNG would be decoded for it
                orientation = _orientation(stored)
            if not decode:
                upright = stored_size[::-1] if orientation in SWAPS_SIDES else stored_size
                as_stored = _drawn_on_stored(annotated_size, stored_size, upright)
                size = stored_size if as_stored else upright
                return Picture(path, size, stored_size, orientation)
        with Image.open(path) as stored:
            orientation = _orientation(stored)
            image = _to_rgb(_as_drawn(stored, annotated_size))
    except Exception as error:
        return Picture(path, None, stored_size, orientation, _reason(error, path))
    gradients, contrast = _looks(image)
    digest = hashlib.blake2b(image.tobytes(), digest_size=16, person=_sides(image.size)).digest()
    return Picture(path, image.size, stored_size, orientation, "", digest, gradients, contrast)


def look_at_all(
    wanted: Iterable[tuple[Path, Size | None]],
    *,
    decode: bool = False,
    progress: Callable[[int], None] | None = None,
) -> list[Picture]:
    """``look_at`` for many files, in their order, on as many threads as there are processors.

    Pillow decodes outside of Python's lock. progress is called with the number of files done.
    """
    pictures = []
    pool = ThreadPoolExecutor(os.cpu_count() or 1)
    # Filters of warnings belong to the whole process: they are set here, not in the threads.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for picture in pool.map(lambda one: look_at(*one, decode=decode), wanted):
                pictures.append(picture)
                if progress is not None:
                    progress(len(pictures))
        finally:
            pool.shutdown(cancel_futures=True)
    return pictures


def _as_drawn(stored: Image.Image, annotated_size: Size | None) -> Image.Image:
    """The pixels that the boxes were drawn on.

    Pillow's ``exif_transpose`` also writes all EXIF data anew, and fails where a camera's is odd.
    """
    orientation = _orientation(stored)
    upright = stored.size[::-1] if orientation in SWAPS_SIDES else stored.size
    if orientation == 1 or _drawn_on_stored(annotated_size, stored.size, upright):
        return stored
    return stored.transpose(TO_UPRIGHT[orientation])


def _orientation(stored: Image.Image) -> int:
    if stored.format == "TIFF":  # Pillow turns it itself, and says its size as turned
        return 1
    value = stored.getexif().get(ExifTags.Base.Orientation, 1)
    return value if value in TO_UPRIGHT else 1


def _drawn_on_stored(annotated: Size | None, stored: Size, upright: Size) -> bool:
    # A half turn leaves the size as it is: then the annotation says nothing, and tools turn.
    return annotated == stored != upright


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # 16-bit grey: Pillow's own conversion clips at 255 instead of scaling.
        image = Image.fromarray(
            (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        )
    return image.convert("RGB")


def _seems_whole(path: Path, kind: str) -> bool:
    """Whether the file ends as its format does; some cameras append data of their own."""
    with open(path, "rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - TAIL))
        tail = file.read()
    if kind == "PNG":
        return b"IEND" in tail and b"eXIf" not in tail
    return tail.rstrip(b"\0\r\n ").endswith(b"\xff\xd9")


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
