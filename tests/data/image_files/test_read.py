"""Probing image files: what a file's header states is what decoding it gives."""

from __future__ import annotations

import os
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.dataset import Dataset
from data.image_files import read as reading
from data.image_files.read import allow_megapixels, max_megapixels, probe, probe_all, read_image
from data.loader import make_loader
from tests.data_sets import photo, save_oriented
from utils.errors import UserError


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("annotated", [None, (64, 48), (48, 64), (9, 9)])
def test_the_header_says_the_size_that_decoding_gives(
    suffix: str, orientation: int, annotated: tuple[int, int] | None, tmp_path: Path
) -> None:
    path = save_oriented(tmp_path / f"a.{suffix}", photo(1), orientation)
    size = read_image(path, annotated).size
    seen, decoded = probe(path, annotated), probe(path, annotated, decode=True)
    assert seen.size == decoded.size == size and seen.error == ""
    if suffix != "tif":  # Pillow rotates it without a sign
        assert seen.stored == decoded.stored == (64, 48)
    assert seen.upright == ((48, 64) if orientation > 4 else (64, 48))
    # Read by the probed size, the same pixels come: a record keeps that size.
    assert read_image(path, seen.size).size == size
    np.testing.assert_array_equal(read_image(path, seen.size), read_image(path, annotated))


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "bmp", "gif"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_recognised_without_decoding_all_files(
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


def test_many_are_probed_in_their_order_and_counted(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(20)]
    for i, path in enumerate(paths):
        photo(i, (20 + i, 20)).save(path)
    paths[7].unlink()
    seen: list[int] = []
    probes = probe_all([(path, None) for path in paths], progress=seen.append)
    assert seen == list(range(1, 21)) and [p.path for p in probes] == paths
    assert [p.size for p in probes] == [None if i == 7 else (20 + i, 20) for i in range(20)]
    assert probes[7].error == "the file is missing"


def test_the_threads_are_as_many_as_the_processors_this_process_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, threads: int) -> None:
            started.append(threads)
            super().__init__(threads)

    monkeypatch.setattr(reading, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7}, raising=False)
    probe_all([])
    monkeypatch.delattr(os, "sched_getaffinity")
    probe_all([])
    assert started == [3, 1, 64, 1]


def test_large_images_are_decoded_one_at_a_time_in_one_thread(
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

    monkeypatch.setattr(reading, "decode_rgb", decode_slowly)
    monkeypatch.setattr(reading, "processors", lambda: 6)
    monkeypatch.setattr(reading, "LARGE_IMAGE", 64 * 48 - 1)
    paths = [tmp_path / f"{i}.png" for i in range(12)]
    for path in paths:
        photo(1).save(path)
    (tmp_path / "0.png").write_bytes(b"")
    probes = probe_all([(path, None) for path in paths], decode=True)
    assert [bool(one.digest) for one in probes] == [False] + [True] * 11
    assert max(counts) == 1 and len(threads) == 1
    monkeypatch.setattr(reading, "LARGE_IMAGE", 64 * 48)
    probe_all([(path, None) for path in paths], decode=True)
    assert max(counts) > 1


@pytest.mark.parametrize(("mode", "bytes_per_pixel"), [("RGB", 1.5), ("I;16", 5.5)])
def test_a_large_image_is_probed_without_copies_of_it(
    mode: str, bytes_per_pixel: float, tmp_path: Path
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
    assert peak < bytes_per_pixel * 2000 * 1500


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
