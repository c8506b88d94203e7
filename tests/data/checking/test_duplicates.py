"""Images that are in both splits are recognised, and only they."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.checking.duplicates import remark_duplicates
from data.image_files.read import ImageProbe, probe_all
from data.remarks import Remarks, Severity
from tests.data_sets import photo


def duplicates(train: list[Path], validation: list[Path]) -> tuple[str, ...]:
    remarks = Remarks()
    probes = [probe_all([(p, None) for p in paths], decode=True) for paths in (train, validation)]
    remark_duplicates(*probes, remarks)
    return remarks.lines()


def test_equal_pixels_are_a_copy_whatever_the_file(tmp_path: Path) -> None:
    photo(1).save(tmp_path / "a.png")
    photo(1).save(tmp_path / "b.bmp")
    photo(2).save(tmp_path / "c.png")
    (line,) = duplicates([tmp_path / "a.png"], [tmp_path / "b.bmp", tmp_path / "c.png"])
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
    (line,) = duplicates([tmp_path / "a.jpg"], [tmp_path / "b.jpg"])
    assert "nearly are training images: 1" in line


@pytest.mark.parametrize("at_once", [(256, 4096), (3, 2)])
def test_the_nearest_is_found_in_whatever_blocks(
    at_once: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.checking.duplicates.ROWS_AT_ONCE", at_once[0])
    monkeypatch.setattr("data.checking.duplicates.COLUMNS_AT_ONCE", at_once[1])
    train = hashed(11)
    validation = [
        replace(one, path=Path(f"v{i}"), digest=bytes([i]), gradients=one.gradients ^ 2**i)
        for i, one in enumerate(train[::-1])
        if one.gradients is not None
    ]
    # The twin is as near as its original: the first of them is named.
    train.append(replace(train[3], path=Path("twin")))
    remarks = Remarks()
    remark_duplicates(train, [*hashed(4, seed=9), *validation], remarks)
    (remark,) = (r for r in remarks if r.severity is Severity.WARNING)
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


def test_different_pictures_and_plain_ones_are_no_duplicates(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(40)]
    for i, path in enumerate(paths):
        photo(i).save(path)
    plain = [tmp_path / f"plain{i}.png" for i in range(3)]
    for i, path in enumerate(plain):
        Image.new("RGB", (64, 48), (100 + i, 100, 100)).save(path)
    assert duplicates(paths[:30] + plain[:2], paths[30:] + plain[2:]) == ()


def test_no_two_real_photographs_of_different_scenes_are_taken_for_duplicates(
    cards_dir: Path,
) -> None:
    train, test = (sorted((cards_dir / s).glob("*.[jJ]*")) for s in ("train", "test"))
    assert duplicates(train, test) == ()
