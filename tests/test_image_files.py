"""What a file's header says is what decoding it gives; copies are found, and only copies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from data.copies import note_copies
from data.dataset import Dataset, make_loader
from data.images import (
    Picture,
    allow_megapixels,
    look_at,
    look_at_all,
    max_megapixels,
    read_image,
)
from data.notes import Notes
from utils.errors import UserError


def photo(number: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """A smooth scene that no other number gives."""
    pixels = np.random.default_rng(number).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def saved(path: Path, image: Image.Image, orientation: int = 1, **options: object) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif, **options)
    return path


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("annotated", [None, (64, 48), (48, 64), (9, 9)])
def test_the_header_says_the_size_that_decoding_gives(
    suffix: str, orientation: int, annotated: tuple[int, int] | None, tmp_path: Path
) -> None:
    path = saved(tmp_path / f"a.{suffix}", photo(1), orientation)
    size = read_image(path, annotated).size
    seen, decoded = look_at(path, annotated), look_at(path, annotated, decode=True)
    assert seen.size == decoded.size == size and seen.error == ""
    if suffix != "tif":  # Pillow turns it and does not tell
        assert seen.stored == decoded.stored == (64, 48)
    assert seen.upright == ((48, 64) if orientation > 4 else (64, 48))
    # Read by the size that was found, the same pixels come: a record keeps that size.
    assert read_image(path, seen.size).size == size
    np.testing.assert_array_equal(read_image(path, seen.size), read_image(path, annotated))


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_whole_jpeg_or_png_is_not_decoded(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a.{suffix}"
    photo(1).save(path)
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    assert look_at(path).size == (64, 48)
    assert look_at(path, decode=True).size is None


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "bmp", "gif"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_seen_without_being_asked_to_decode(
    suffix: str, share: float, tmp_path: Path
) -> None:
    path = tmp_path / f"a.{suffix}"
    photo(1, (200, 150)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert look_at(path).size is None and look_at(path).error
    with pytest.raises(UserError, match=f"a.{suffix}"):
        read_image(path)


def test_data_that_a_camera_appends_are_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    photo(1).save(path)
    path.write_bytes(path.read_bytes() + b"SEFT" * 600)
    assert look_at(path).size == (64, 48)


def test_many_are_looked_at_in_their_order_and_counted(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(20)]
    for i, path in enumerate(paths):
        photo(i, (20 + i, 20)).save(path)
    paths[7].unlink()
    seen: list[int] = []
    found = look_at_all([(path, None) for path in paths], progress=seen.append)
    assert seen == list(range(1, 21)) and [p.path for p in found] == paths
    assert [p.size for p in found] == [None if i == 7 else (20 + i, 20) for i in range(20)]
    assert found[7].error == "the file is missing"


def test_a_loader_s_process_keeps_the_limit_that_was_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # undone afterwards
    assert max_megapixels() == pytest.approx(178.95697)
    allow_megapixels(0.5)
    start = make_loader(Dataset([], []), 1).worker_init_fn
    allow_megapixels(9)  # what a process that inherits nothing would have
    assert start is not None
    start(0)
    assert max_megapixels() == 0.5


def copies(train: list[Path], validation: list[Path]) -> tuple[str, ...]:
    notes = Notes()
    looks: list[list[Picture]] = [
        look_at_all([(p, None) for p in paths], decode=True) for paths in (train, validation)
    ]
    note_copies(looks[0], looks[1], notes)
    return notes.lines()


def test_equal_pixels_are_a_copy_whatever_the_file(tmp_path: Path) -> None:
    photo(1).save(tmp_path / "a.png")
    photo(1).save(tmp_path / "b.bmp")
    photo(2).save(tmp_path / "c.png")
    (line,) = copies([tmp_path / "a.png"], [tmp_path / "b.bmp", tmp_path / "c.png"])
    assert "training images too: 1" in line and "b.bmp is" in line and "a.png" in line


@pytest.mark.parametrize("change", ["smaller", "lower quality", "brighter", "a few pixels moved"])
def test_a_picture_that_was_changed_a_little_nearly_is_the_same(
    change: str, tmp_path: Path
) -> None:
    original = photo(1, (320, 240))
    other = {
        "smaller": original.resize((160, 120)),
        "lower quality": original,
        "brighter": original.point([min(255, i + 6) for i in range(256)] * 3),
        "a few pixels moved": original.transform(
            (320, 240), Image.Transform.AFFINE, (1, 0, 3, 0, 1, 2)
        ),
    }[change]
    original.save(tmp_path / "a.jpg", quality=95)
    other.save(tmp_path / "b.jpg", quality=30)
    (line,) = copies([tmp_path / "a.jpg"], [tmp_path / "b.jpg"])
    assert "nearly are training images: 1" in line


def test_different_pictures_and_plain_ones_are_no_copies(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(40)]
    for i, path in enumerate(paths):
        photo(i).save(path)
    plain = [tmp_path / f"plain{i}.png" for i in range(3)]
    for i, path in enumerate(plain):
        Image.new("RGB", (64, 48), (100 + i, 100, 100)).save(path)
    assert copies(paths[:30] + plain[:2], paths[30:] + plain[2:]) == ()


def test_no_two_real_photographs_of_different_scenes_are_taken_for_copies(cards_dir: Path) -> None:
    train, test = (
        sorted((cards_dir / "train").glob("*.[jJ]*")),
        sorted((cards_dir / "test").glob("*.[jJ]*")),
    )
    assert copies(train, test) == ()
