from __future__ import annotations

import os
import random
import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from data import open_dataset
from tests.data_sets import (
    ACE,
    KING,
    draw_image,
    image_names,
    write_charlotte,
    write_text,
)

TEN = {f"{i:02}.jpg": [ACE if i % 2 else KING] for i in range(10)}


@pytest.mark.parametrize(
    ("classes", "names", "note"),
    [
        (
            "\ufeffking\r\n\r\nqueen\r\nace \r\nking\r\n",
            ("king", "queen", "ace"),
            "without an object in the training split: 1 (queen)",
        ),
        ("king\nacce", ("king", "acce", "ace"), "'ace' in 5 object(s) (did you mean 'acce'?)"),
        ("tree\nhouse", ("ace", "king"), "classes.txt is not used"),
    ],
)
def test_classes_txt_gives_the_order_and_is_completed_or_not_used_where_names_lack(
    classes: str, names: tuple[str, ...], note: str, tmp_path: Path
) -> None:
    write_charlotte(tmp_path, TEN)
    assert open_dataset(tmp_path).class_names == ("ace", "king")
    write_text(tmp_path / "classes.txt", classes)
    splits = open_dataset(tmp_path)
    assert splits.class_names == names and any(note in n for n in splits.notes)


def test_images_without_xml_or_without_objects_are_kept(tmp_path: Path) -> None:
    write_charlotte(tmp_path, {**TEN, "empty.jpg": []})
    draw_image(tmp_path / "bare.png")
    splits = open_dataset(tmp_path)
    empty = [a for s in (splits.train, splits.validation) for a in s.annotations if not a.names]
    assert {a.image_path.name for a in empty} == {"empty.jpg", "bare.png"}
    assert all(a.boxes.shape == (0, 4) and a.difficult.shape == (0,) for a in empty)
    assert any("without an XML file" in n and ": 1 " in n for n in splits.notes)


def test_an_image_whose_xml_belongs_to_its_twin_is_not_taken_for_empty(tmp_path: Path) -> None:
    write_charlotte(tmp_path, TEN)
    draw_image(tmp_path / "00.png")
    splits = open_dataset(tmp_path)
    assert "00.png" not in image_names(splits.train, splits.validation)
    assert any("left out" in note for note in splits.notes)


@pytest.mark.parametrize("validation", ["val", "Valid", "validation", "test"])
def test_train_and_validation_folders_are_the_splits(tmp_path: Path, validation: str) -> None:
    write_charlotte(tmp_path / "train", TEN)
    write_charlotte(tmp_path / validation, {"v.jpg": [ACE]})
    splits = open_dataset(tmp_path)
    assert image_names(splits.train, splits.validation) == [*TEN, "v.jpg"]
    assert splits.notes == ()


@pytest.mark.parametrize("where", [".", "train"])
def test_the_class_list_of_folders_lies_at_the_top_or_in_train(tmp_path: Path, where: str) -> None:
    write_charlotte(tmp_path / "train", TEN)
    write_charlotte(tmp_path / "val", {"v.jpg": [ACE]})
    write_text(tmp_path / where / "classes.txt", "queen\nking\nace")
    assert open_dataset(tmp_path).class_names == ("queen", "king", "ace")


def test_test_is_not_used_beside_val_and_that_is_noted(tmp_path: Path) -> None:
    for name in ("train", "test", "val"):
        write_charlotte(tmp_path / name, {f"{name}.jpg": [ACE]})
    splits = open_dataset(tmp_path)
    assert image_names(splits.validation) == ["val.jpg"]
    assert any("not used: test/" in note for note in splits.notes)


def test_the_split_follows_from_the_seed_and_not_from_the_folder_or_the_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write_charlotte(tmp_path / "one", TEN)
    second = tmp_path / "elsewhere" / "two"
    shutil.copytree(first, second)
    expected = image_names(open_dataset(first).validation)
    assert len(expected) == 2
    assert any(image_names(open_dataset(first, seed=s).validation) != expected for s in range(1, 5))

    scandir = os.scandir

    def shuffled(path: str) -> AbstractContextManager[list[os.DirEntry[str]]]:
        return nullcontext(random.Random(3).sample(entries := list(scandir(path)), len(entries)))

    monkeypatch.setattr(os, "scandir", shuffled)
    monkeypatch.chdir(second.parent)
    assert image_names(open_dataset("two").validation) == expected


def test_the_real_photographs_read_as_charlotte(cards_dir: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in (cards_dir / "train").iterdir():
        shutil.copyfile(path, flat / path.name)
    splits = open_dataset(flat)
    assert splits.class_names == ("ace", "jack", "king", "nine", "queen", "ten")
    assert (len(splits.train), len(splits.validation)) == (237, 59)
    counts = splits.train.label_counts() + splits.validation.label_counts()
    assert sum(counts.values()) == 527
