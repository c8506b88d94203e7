"""What a file's header says is what decoding it gives; copies are found, and only copies."""

from __future__ import annotations

import os
import struct
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from data.checking.duplicates import remark_duplicates
from data.dataset import Dataset
from data.image_files import read as images
from data.image_files.read import (
    ImageProbe,
    allow_megapixels,
    max_megapixels,
    probe,
    probe_all,
    read_image,
)
from data.loader import make_loader
from data.remarks import Remarks, Severity
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
    seen, decoded = probe(path, annotated), probe(path, annotated, decode=True)
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
    assert probe(path).size == (64, 48)
    assert probe(path, decode=True).size is None


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "bmp", "gif"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_seen_without_being_asked_to_decode(
    suffix: str, share: float, tmp_path: Path
) -> None:
    path = tmp_path / f"a.{suffix}"
    photo(1, (200, 150)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert probe(path).size is None and probe(path).error
    with pytest.raises(UserError, match=f"a.{suffix}"):
        read_image(path)


def test_data_that_a_camera_appends_are_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    photo(1).save(path)
    path.write_bytes(path.read_bytes() + b"SEFT" * 600)
    assert probe(path).size == (64, 48)


def test_many_are_looked_at_in_their_order_and_counted(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(20)]
    for i, path in enumerate(paths):
        photo(i, (20 + i, 20)).save(path)
    paths[7].unlink()
    seen: list[int] = []
    found = probe_all([(path, None) for path in paths], progress=seen.append)
    assert seen == list(range(1, 21)) and [p.path for p in found] == paths
    assert [p.size for p in found] == [None if i == 7 else (20 + i, 20) for i in range(20)]
    assert found[7].error == "the file is missing"


def test_the_threads_are_as_many_as_the_processors_this_process_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, threads: int) -> None:
            started.append(threads)
            super().__init__(threads)

    monkeypatch.setattr(images, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7}, raising=False)
    probe_all([])
    monkeypatch.delattr(os, "sched_getaffinity")
    probe_all([])
    assert started == [3, 1, 64, 1]


def test_large_pictures_are_decoded_one_at_a_time_in_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()
    alive: list[int] = []
    counts: list[int] = []

    def decode_slowly(stored: Image.Image, annotated: tuple[int, int] | None) -> Image.Image:
        alive.append(1)
        threads.add(threading.get_ident())
        time.sleep(0.02)
        counts.append(len(alive))
        alive.pop()
        return stored.convert("RGB")

    monkeypatch.setattr(images, "decode_rgb", decode_slowly)
    monkeypatch.setattr(images, "processors", lambda: 6)
    monkeypatch.setattr(images, "LARGE_IMAGE", 64 * 48 - 1)
    paths = [tmp_path / f"{i}.png" for i in range(12)]
    for path in paths:
        photo(1).save(path)
    (tmp_path / "0.png").write_bytes(b"")
    found = probe_all([(path, None) for path in paths], decode=True)
    assert [bool(picture.digest) for picture in found] == [False] + [True] * 11
    assert max(counts) == 1 and len(threads) == 1
    monkeypatch.setattr(images, "LARGE_IMAGE", 64 * 48)
    probe_all([(path, None) for path in paths], decode=True)
    assert max(counts) > 1


@pytest.mark.parametrize(("mode", "bytes_a_pixel"), [("RGB", 1.5), ("I;16", 5.5)])
def test_a_large_picture_is_looked_at_without_copies_of_it(
    mode: str, bytes_a_pixel: float, tmp_path: Path
) -> None:
    """Of what Python allocates; Pillow's own pixels are not in this count."""
    image = photo(1, (2000, 1500))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    image.save(tmp_path / "a.png", compress_level=1)
    probe(tmp_path / "a.png", decode=True)
    tracemalloc.start()
    probe(tmp_path / "a.png", decode=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < bytes_a_pixel * 2000 * 1500


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
        (np.int32([0, 2**30, 2**24, 2**31 - 1]), [0, 128, 2, 255]),
        (np.float32([0, 0.25, 0.8, 1]), [0, 64, 204, 255]),
        (np.float32([0, 0.25, 200, 255]), [0, 0, 200, 255]),
    ],
)
def test_grey_of_other_depths_is_scaled(
    values: np.ndarray, expected: list[int], tmp_path: Path
) -> None:
    Image.fromarray(values.reshape(2, 2)).save(tmp_path / "a.tif")
    assert grey_of(tmp_path / "a.tif") == expected


@pytest.mark.parametrize(
    "values",
    [
        np.int32([-1, 5, 6, 7]),
        np.float32([-0.5, 0, 0, 1]),
        np.float32([0, 0, 0, 256]),
        np.float32([0, 0, 0, np.nan]),
        np.float32([0, 0, 0, np.inf]),
    ],
)
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
    notes = Remarks()
    looks: list[list[ImageProbe]] = [
        probe_all([(p, None) for p in paths], decode=True) for paths in (train, validation)
    ]
    remark_duplicates(looks[0], looks[1], notes)
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


@pytest.mark.parametrize("at_once", [(256, 4096), (3, 2)])
def test_the_nearest_is_found_in_whatever_blocks(
    at_once: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.checking.duplicates.ROWS_AT_ONCE", at_once[0])
    monkeypatch.setattr("data.checking.duplicates.COLUMNS_AT_ONCE", at_once[1])
    train = hashed(11)
    validation = [
        replace(picture, path=Path(f"v{i}"), digest=bytes([i]), gradients=picture.gradients ^ 2**i)
        for i, picture in enumerate(train[::-1])
        if picture.gradients is not None
    ]
    # As near to the last as to the first of two: the first is told.
    train.append(replace(train[3], path=Path("twin")))
    notes = Remarks()
    remark_duplicates(train, [*hashed(4, seed=9), *validation], notes)
    (remark,) = notes.of(Severity.WARNING)
    assert remark.places == [f"v{i} looks like {10 - i}" for i in range(11)]


def hashed(count: int, seed: int = 0) -> list[ImageProbe]:
    """Pictures that look like nothing else, without pixels."""
    signs = np.random.default_rng(seed).integers(0, 2**63, (count, 4), dtype=np.uint64)
    return [
        ImageProbe(Path(f"{i}"), (64, 48), digest=b"%d %d" % (seed, i), gradients=row, contrast=50)
        for i, row in enumerate(signs)
    ]


def test_the_memory_of_comparing_does_not_grow_with_the_data_set() -> None:
    train, validation = hashed(12_000), hashed(300, seed=1)
    tracemalloc.start()
    remark_duplicates(train, validation, Remarks())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60_000_000  # all of one side at once would be 98 MB and more


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
