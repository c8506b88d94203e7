"""Decoded images stay in memory: the same items, each file read once by all processes together."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from data import open_dataset
from data.augmentation import TrainingTransform
from data.dataset import Dataset, DataSplits
from data.image_files.cache import ImageCache, bytes_in_memory
from data.loader import make_loader
from data.source import keep_decoded
from tests.data_sets import ACE, KING, SIZE, comparable, save_oriented, write_cards
from utils import hardware
from utils.errors import UserError
from utils.hardware import available_memory

BYTES = 3 * SIZE[0] * SIZE[1] + 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five training images, one of them stored lying on its side and one grey; one validation."""
    folder = write_cards(
        tmp_path / "cards", {f"{i}.png": [ACE, KING] for i in range(5)}, {"9.png": [ACE]}
    )
    rotated = Image.open(folder / "train" / "3.png").rotate(90, expand=True)
    save_oriented(folder / "train" / "3.png", rotated, 6)
    Image.open(folder / "train" / "4.png").convert("L").save(folder / "train" / "4.png")
    return folder


@pytest.fixture
def splits(folder: Path) -> DataSplits:
    return open_dataset(folder)


def epoch(dataset: Dataset, workers: int = 0) -> list[tuple]:
    return comparable(make_loader(dataset, 2, workers=workers))


@pytest.mark.parametrize("transform", [None, TrainingTransform((64, 64))], ids=["plain", "random"])
def test_items_with_and_without_cache_are_the_same(
    splits: DataSplits, transform: TrainingTransform | None
) -> None:
    plain = splits.train.with_transform(transform)
    kept = splits.train.cached().with_transform(transform)
    for _ in range(2):
        assert epoch(kept) == epoch(plain)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_is_read_once_by_all_processes_together(
    splits: DataSplits, folder: Path, workers: int
) -> None:
    plain, kept = splits.train, splits.train.cached()
    expected = epoch(plain)
    epoch(kept, workers)
    shutil.rmtree(folder / "train")
    assert epoch(kept, workers) == expected
    assert epoch(kept) == expected
    assert epoch(plain) == [([], []), ([], []), ([], [])]


@pytest.mark.parametrize("first", ["sample", "item"])
def test_a_sample_is_read_through_the_cache(splits: DataSplits, folder: Path, first: str) -> None:
    """Crops, galleries and grids take samples; the loaders of training and validation, items."""
    kept = splits.train.cached()
    expected = [splits.train.sample(i) for i in range(len(kept))]
    for i in range(len(kept)):
        kept.readable_sample(i) if first == "sample" else kept[i]
    shutil.rmtree(folder / "train")
    for i, plain in enumerate(expected):
        sample = kept.readable_sample(i)
        assert sample is not None and sample.image.mode == "RGB"
        assert sample.image.size == plain.image.size
        assert sample.image.tobytes() == plain.image.tobytes()
        assert torch.equal(sample.boxes, plain.boxes) and type(sample.boxes) is torch.Tensor
        assert torch.equal(sample.labels, plain.labels)
    assert not kept.unreadable.any()


def test_what_a_caller_does_to_an_image_stays_with_the_caller(splits: DataSplits) -> None:
    kept = splits.train.cached()
    for _ in range(2):
        image, _ = kept[0]
        image.zero_()
    assert torch.equal(kept[0][0], splits.train[0][0])


def test_an_image_of_another_size_than_stated_is_read_each_time(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 6), "red").save(path)
    cache = ImageCache([(path, (9, 6))])
    assert cache.pixels(path, (9, 6)).shape == cache.pixels(path, (9, 6)).shape == (3, 6, 8)
    assert cache.pixels(path, None).shape == (3, 6, 8)
    path.unlink()
    with pytest.raises(UserError, match="missing"):
        cache.pixels(path, (9, 6))


def test_an_image_that_cannot_be_read_is_not_kept(splits: DataSplits, folder: Path) -> None:
    path = folder / "train" / "0.png"
    whole = path.read_bytes()
    kept, expected = splits.train.cached(), splits.train[0][0]
    path.unlink()
    with pytest.raises(UserError, match="missing"):
        kept[0]
    path.write_bytes(whole)
    assert torch.equal(kept[0][0], expected)


def test_a_process_that_is_started_anew_reads_for_itself(splits: DataSplits) -> None:
    kept = splits.train.cached()
    kept[0]
    for other in (pickle.loads(pickle.dumps(kept)), copy.deepcopy(kept)):
        assert len(pickle.dumps(other)) < BYTES
        assert torch.equal(other[0][0], kept[0][0])


def test_images_that_fit_are_kept_for_both_splits(splits: DataSplits, folder: Path) -> None:
    kept, text = keep_decoded(splits, memory=2 * 6 * BYTES, workers=2)
    assert kept.train.cache is kept.validation.cache is not None
    assert bytes_in_memory([*splits.train.sizes(), *splits.train.sizes()]) == 5 * BYTES
    assert text == f"6 decoded images, {6 * BYTES / 1e9:.2f} GB, stay in memory"
    assert (kept.class_names, kept.layout) == (splits.class_names, splits.layout)
    subset = kept.train.subset([1, 1, 2])
    expected = epoch(subset)
    shutil.rmtree(folder / "train")
    assert epoch(subset) == expected


def test_where_images_cannot_be_kept_they_are_decoded_each_time_and_the_user_is_informed(
    splits: DataSplits, monkeypatch: pytest.MonkeyPatch
) -> None:
    same, text = keep_decoded(splits, memory=2 * 6 * BYTES - 2, workers=2)
    assert same is splits
    assert text.startswith("off: 6 decoded images") and "more than 50%" in text

    monkeypatch.setattr(multiprocessing, "get_start_method", lambda: "spawn")
    same, text = keep_decoded(splits, memory=10**9, workers=2)
    assert same is splits and "--workers 0" in text
    assert keep_decoded(splits, memory=10**9, workers=0)[0].train.cache

    def refuse(*arguments: int) -> None:
        raise OSError("Cannot allocate memory")

    monkeypatch.setattr("data.image_files.cache.mmap.mmap", refuse)
    same, text = keep_decoded(splits, memory=10**9, workers=0)
    assert same is splits and text.startswith("off:") and "Cannot allocate memory" in text


def test_other_names_for_the_classes_keep_the_cache(splits: DataSplits) -> None:
    kept = splits.train.cached()
    assert kept.renamed_to(("king", "ace")).cache is kept.cache is not None


def test_memory_that_is_left_ends_at_a_container_s_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit, used = tmp_path / "limit", tmp_path / "used"
    (tmp_path / "memory.stat").write_text("anon 7\ninactive_file 30\nactive_file 9\n")
    files = ("limit", "used", "inactive_file")
    containers = [(str(tmp_path / "none"), *files), (str(tmp_path), *files)]
    monkeypatch.setattr(hardware, "CONTAINERS", containers)
    whole = available_memory()
    limit.write_text("1000\n")
    used.write_text("400\n")
    assert available_memory() == 630, "cached files are let go where memory is needed"
    used.write_text("1031\n")
    assert available_memory() == 0
    limit.write_text("max\n")
    assert available_memory() > 0.5 * whole
