"""One image file to upright RGB: the formats that are read, EXIF's orientation, depths of grey."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

# Pillow has more readers. Some start programs (EPS: Ghostscript), whatever a file is called, and
# others open what lies inside a file with any reader. TGA has no signature: it comes last.
FORMATS = (
    "JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF", "ICO", "TGA",
)  # fmt: skip

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

TAIL = 1024  # bytes from a JPEG's end that show whether it is whole
# PNG text chunks that can hold an orientation; the longest name that such a chunk may have.
_ORIENTATION_TEXTS = frozenset({b"exif", b"Raw profile type exif", b"xmp", b"XML:com.adobe.xmp"})
_LONGEST_NAME = 80
_BITS_PER_SAMPLE = 258  # a tag of TIFF


def open_image(path: Path) -> Image.Image:
    """An image in one of ``FORMATS``, not decoded. Raises whatever Pillow's readers raise."""
    Image.init()
    # A build of Pillow may lack some.
    return Image.open(path, formats=[kind for kind in FORMATS if kind in Image.OPEN])


def decode_rgb(stored: Image.Image, annotated_size: Size | None) -> Image.Image:
    """The pixels that the boxes were drawn on, RGB, see ``data.image_files.read.read_image``.

    Grey of more than 8 bits is scaled: 16 bits by their range, as a TIFF of 12 bits by its own.
    No standard says what is white in 32 bits: as many bits count as the greatest value needs.
    Floats go from 0 to 1, or from 0 to 255 where one is greater than 1. Raises ValueError where
    values are below 0 or, as floats, above 255, and whatever Pillow's readers raise.
    """
    stored.load()  # a PNG may state its orientation behind its pixels
    bits = _grey_bits(stored)
    orientation = orientation_of(stored)
    image = stored
    # Pillow's exif_transpose also writes all EXIF data anew, and fails where a camera's is odd.
    if orientation != 1 and not drawn_on_stored(annotated_size, stored.size, orientation):
        image = stored.transpose(TO_UPRIGHT[orientation])
    if image.mode.startswith(("F", "I")):
        image = Image.fromarray(_eight_bits(np.asarray(image), bits, image.mode))
    return image if image.mode == "RGB" else image.convert("RGB")


def orientation_of(stored: Image.Image) -> int:
    """The orientation in EXIF or XMP data, as far as the file has been read."""
    if stored.format == "TIFF":  # Pillow rotates it itself, and gives the rotated size
        return 1
    # PNG's own getexif decodes all pixels for what may stand behind them.
    value = Image.Image.getexif(stored).get(ExifTags.Base.Orientation, 1)
    return value if value in TO_UPRIGHT else 1


def upright_size(stored: Size, orientation: int) -> Size:
    return stored[::-1] if orientation in SWAPS_SIDES else stored


def drawn_on_stored(annotated: Size | None, stored: Size, orientation: int) -> bool:
    """Whether the annotation's size shows that its boxes were drawn before the rotation.

    Where the rotation leaves the size as it is, they count as drawn after it: most tools rotate.
    """
    return annotated == stored != upright_size(stored, orientation)


def header_tells_all(path: Path, kind: str | None) -> bool:
    """Whether the file is whole, as far as its end shows, and oriented as its header states."""
    if kind == "PNG":
        return _png_tells_all(path)
    if kind not in ("JPEG", "MPO"):
        return False
    with open(path, "rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - TAIL))
        return file.read().rstrip(b"\0\r\n ").endswith(b"\xff\xd9")


def _png_tells_all(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(8)
        pixels = False
        while len(head := file.read(8)) == 8:
            length, kind = int.from_bytes(head[:4], "big"), head[4:]
            start = file.read(min(length, _LONGEST_NAME))
            if kind == b"IEND":
                return True
            if pixels and (kind == b"eXIf" or start.partition(b"\0")[0] in _ORIENTATION_TEXTS):
                return False
            pixels |= kind in (b"IDAT", b"fdAT")
            file.seek(length - len(start) + 4, os.SEEK_CUR)
    return False


def _grey_bits(stored: Image.Image) -> int | None:
    """The bits of a grey image's range, None where its format does not say."""
    if stored.mode.startswith("I;16"):
        return getattr(stored, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))[0]
    return 16 if stored.format == "PPM" else None


def _eight_bits(values: np.ndarray, bits: int | None, mode: str) -> np.ndarray:
    lowest, highest = values.min(), values.max()
    in_range = lowest >= 0 and (mode != "F" or highest <= 255)  # false also where one is nan
    if not in_range and (mode == "F" or bits is None):
        raise ValueError(
            f"mode {mode} with values from {lowest:g} to {highest:g}, whose black and white are "
            "not known; save 8 or 16 bits"
        )
    if mode == "F":
        return (values * (255 if highest <= 1 else 1) + 0.5).astype(np.uint8)
    bits = int(highest).bit_length() if bits is None else bits
    return (values >> max(0, bits - 8)).astype(np.uint8)
