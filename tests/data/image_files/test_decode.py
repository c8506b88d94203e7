"""Image files to upright RGB: every orientation wherever a file holds it, every mode and depth."""

from __future__ import annotations

import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from data.dataset import Dataset
from data.image_files.read import probe, read_image
from tests.data_sets import ACE, SIZE, annotation, draw_image, png_chunk, save_oriented
from utils.errors import UserError

RED, BLUE = (255, 0, 0), (0, 0, 255)
ORIENTATION = 0x0112


def two_halves(size: tuple[int, int] = (40, 20)) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    return image


def halves_rotated(path: Path, orientation: int) -> Path:
    return save_oriented(path, two_halves(), orientation, quality=95)


def colour_at(image: Image.Image, x: int, y: int) -> str:
    red, _, blue = image.getpixel((x, y))  # type: ignore[misc]
    return "red" if red > blue else "blue"


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize(
    ("orientation", "right", "bottom"),
    [(1, 0, 0), (2, 1, 0), (3, 1, 1), (4, 0, 1), (5, 0, 0), (6, 1, 0), (7, 1, 1), (8, 0, 1)],
)
def test_an_image_is_rotated_as_its_exif_data_state(
    suffix: str, orientation: int, right: bool, bottom: bool, tmp_path: Path
) -> None:
    """right, bottom: where the corner is that was red and is at the top left of the pixels."""
    size = (20, 40) if orientation > 4 else (40, 20)
    x, y = (size[0] - 3 if right else 2), (size[1] - 3 if bottom else 2)
    path = halves_rotated(tmp_path / f"a.{suffix}", orientation)
    for annotated in (None, size if size != (40, 20) else None, (999, 1)):
        image = read_image(path, annotated)
        assert image.size == size
        assert colour_at(image, x, y) == "red"
        assert colour_at(image, size[0] - 1 - x, size[1] - 1 - y) == "blue"


def test_an_image_annotated_as_stored_is_left_as_stored(tmp_path: Path) -> None:
    """The annotation tool ignored the orientation: its boxes belong to the stored pixels."""
    path = halves_rotated(tmp_path / "a.jpg", 6)
    image = read_image(path, (40, 20))
    assert image.size == (40, 20)
    assert colour_at(image, 2, 10) == "red" and colour_at(image, 37, 10) == "blue"
    data = Dataset([annotation(path, size=(40, 20)), annotation(path, size=(20, 40))], [])
    assert [tuple(data[i][0].shape) for i in (0, 1)] == [(3, 20, 40), (3, 40, 20)]


def exif_bytes(*entries: tuple[int, int, int, bytes]) -> bytes:
    """EXIF data of (tag, type, count, four bytes) as a camera may write them."""
    rows = b"".join(struct.pack(">HHI4s", *entry) for entry in entries)
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", len(entries)) + rows + bytes(4)


def test_odd_exif_data_beside_the_orientation_do_no_harm(tmp_path: Path) -> None:
    """A number stored as text: Pillow reads such data and cannot write them."""
    orientation = (ORIENTATION, 3, 1, b"\0\x06\0\0")
    odd = (0x0106, 2, 4, b"two\0")
    two_halves().save(tmp_path / "a.jpg", exif=exif_bytes(odd, orientation))
    image = read_image(tmp_path / "a.jpg")
    assert image.size == (20, 40) and colour_at(image, 10, 2) == "red"


@pytest.mark.parametrize("value", [0, 9, 255])
def test_an_orientation_that_does_not_exist_rotates_nothing(value: int, tmp_path: Path) -> None:
    exif = exif_bytes((ORIENTATION, 3, 1, bytes([0, value, 0, 0])))
    two_halves().save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").size == (40, 20)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [*((mode, "png") for mode in ("P", "RGBA", "L", "LA", "1")), ("CMYK", "jpg"), ("P", "gif")],
)
def test_every_mode_becomes_rgb(mode: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    two_halves().convert(mode).save(path)
    image = read_image(path)
    assert image.mode == "RGB" and image.size == (40, 20)
    left, right = image.getpixel((5, 10)), image.getpixel((35, 10))
    if mode in ("P", "RGBA", "CMYK"):
        np.testing.assert_allclose([left, right], [RED, BLUE], atol=12)
    else:
        assert left[0] == left[1] == left[2] and left != right or mode == "1"  # type: ignore[index]


def test_a_missing_truncated_or_other_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    whole = draw_image(tmp_path / "whole.jpg", [ACE], (200, 200)).read_bytes()
    (tmp_path / "short.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no image at all")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    for name in ("missing.jpg", "short.jpg", "text.jpg", "empty.jpg", "folder.jpg"):
        path = tmp_path / name
        with pytest.raises(UserError) as caught:
            Dataset([annotation(path)], []).sample(0)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=60, deadline=None)
@given(suffix=st.sampled_from(["jpg", "png", "tif", "webp"]), data=st.data())
def test_a_damaged_file_is_read_or_refused_and_never_something_else(
    suffix: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = halves_rotated(tmp_path_factory.mktemp("damaged") / f"a.{suffix}", 6)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        assert read_image(path).mode == "RGB"
    except UserError as error:
        assert str(path) in str(error)


def test_an_image_outlives_its_file(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    path = draw_image(folder / "a.png", [ACE])
    image = read_image(path)
    shutil.rmtree(folder)
    assert np.asarray(image).shape == (48, 64, 3)


def oriented_by(place: str) -> bytes:
    """A chunk of PNG with the orientation 6, a rotation by 90 degrees."""
    exif = Image.Exif()
    exif[0x0112] = 6
    raw = exif.tobytes()
    xmp = b'<rdf:Description tiff:Orientation="6"/>'
    profile = f"\nexif\n{len(raw):8}\n{raw.hex()}\n".encode()
    return {
        "eXIf": png_chunk(b"eXIf", raw[6:]),
        "XMP": png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
        "profile": png_chunk(b"tEXt", b"Raw profile type exif\0" + profile),
        "packed profile": png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile)),
    }[place]


@pytest.mark.parametrize("place", ["eXIf", "XMP", "profile", "packed profile"])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("annotated", [None, SIZE, SIZE[::-1]])
def test_an_orientation_is_seen_wherever_a_png_holds_it(
    annotated: tuple[int, int] | None, late: bool, place: str, tmp_path: Path
) -> None:
    path = draw_image(tmp_path / "a.png")
    content = path.read_bytes()
    at = len(content) - 12 if late else 33  # before IEND or behind IHDR
    much = png_chunk(b"tEXt", b"Comment\0" + bytes(5000))
    path.write_bytes(content[:at] + much + oriented_by(place) + much + content[at:])
    seen, decoded = probe(path, annotated), probe(path, annotated, decode=True)
    assert seen.size == decoded.size == read_image(path, annotated).size
    assert seen.orientation == decoded.orientation == 6
    assert probe(path).size == SIZE[::-1]


def test_a_png_is_not_decoded_for_texts_without_an_orientation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = draw_image(tmp_path / "a.png")
    content = path.read_bytes()
    date = png_chunk(b"tEXt", b"date:create\x002026-01-01") + png_chunk(b"tIME", bytes(7))
    early = content[:33] + oriented_by("XMP") + content[33:-12]
    path.write_bytes(early + date + content[-12:] + b"appended by a tool" * 100)
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    assert probe(path).size == SIZE[::-1]


def test_a_png_without_its_end_is_decoded(tmp_path: Path) -> None:
    path = draw_image(tmp_path / "a.png")
    content = path.read_bytes()
    for cut in range(40, len(content) - 8, 7):
        path.write_bytes(content[:cut])
        seen = probe(path)
        assert seen.error or seen.digest


def grey_of(path: Path) -> list[int]:
    image = read_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)[..., 0].ravel().tolist()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.int32([0, 100, 200, 255]), [0, 100, 200, 255]),
        (np.int32([0, 1, 2, 3]), [0, 1, 2, 3]),
        (np.int32([0, 1024, 2048, 4095]), [0, 64, 128, 255]),
        (np.int32([0, 257, 40_000, 65535]), [0, 1, 156, 255]),
        (np.uint16([0, 257, 40_000, 65535]), [0, 1, 156, 255]),
        (np.int32([0, 2**30, 2**24, 2**31 - 1]), [0, 128, 2, 255]),
        (np.float32([0, 0.25, 0.8, 1]), [0, 64, 204, 255]),
        (np.float32([0, 0.25, 200, 255]), [0, 0, 200, 255]),
    ],
)
def test_grey_of_other_depths_is_scaled(
    values: np.ndarray, expected: list[int], tmp_path: Path
) -> None:
    for suffix in ("tif", "png") if values.dtype == np.uint16 else ("tif",):
        Image.fromarray(values.reshape(2, 2)).save(tmp_path / f"a.{suffix}")
        assert grey_of(tmp_path / f"a.{suffix}") == expected


@pytest.mark.parametrize(
    "values",
    [np.int32([-1, 5, 6, 7]), *(np.float32([least, 0, 0, most]) for least, most in
     ((-0.5, 1), (0, 256), (0, np.nan), (0, np.inf)))],
)  # fmt: skip
def test_grey_of_no_known_scale_is_one_error_with_file_and_mode(
    values: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(values.reshape(2, 2)).save(path)
    mode = "F" if values.dtype == np.float32 else "I"
    with pytest.raises(UserError) as caught:
        read_image(path)
    assert str(path) in str(caught.value) and f"mode {mode} with values from" in str(caught.value)
    assert "\n" not in str(caught.value) and f"mode {mode}" in probe(path).error


def test_sixteen_bits_of_a_pgm_are_scaled_by_their_range_and_not_by_what_is_in_it(
    tmp_path: Path,
) -> None:
    values = np.array([0, 512, 1024, 2048], dtype=">u2").tobytes()
    (tmp_path / "a.pgm").write_bytes(b"P5 2 2 65535\n" + values)
    assert grey_of(tmp_path / "a.pgm") == [0, 2, 4, 8]
    (tmp_path / "b.pgm").write_bytes(
        b"P5 2 2 4095\n" + np.array([0, 1, 2048, 4095], ">u2").tobytes()
    )
    assert grey_of(tmp_path / "b.pgm") == [0, 0, 128, 255]


def test_a_tiff_of_twelve_bits_is_scaled_by_twelve(tmp_path: Path) -> None:
    tags = [(256, 2), (257, 2), (258, 12), (259, 1), (262, 1), (273, 200), (277, 1), (278, 2)]
    rows = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in [*tags, (279, 6)])
    head = b"II*\0" + struct.pack("<IH", 8, len(tags) + 1) + rows + bytes(4)
    # Two values in three bytes: 0, 2048 and 1024, 4095.
    (tmp_path / "a.tif").write_bytes(head.ljust(200, b"\0") + bytes.fromhex("000800400fff"))
    assert grey_of(tmp_path / "a.tif") == [0, 128, 64, 255]
