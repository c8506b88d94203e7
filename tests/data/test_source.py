"""The data set of a run: where it is, how it is described, and which class list it has."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from data import source as source_module
from data.dataset import DataSplits
from data.source import DataSource, describe_splits, match_classes
from tests.data_sets import ACE, KING, Thing, write_cards
from utils.errors import UserError

QUEEN: Thing = ("queen", 5, 5, 25, 25)
TRAIN = {"0.jpg": [ACE], "1.jpg": [KING, QUEEN], "2.jpg": [], "3.jpg": [QUEEN]}
VALIDATION = {"8.jpg": [ACE, ("ace", 30, 6, 50, 30)], "9.jpg": [KING]}


@pytest.fixture
def source(tmp_path: Path) -> DataSource:
    return DataSource(str(write_cards(tmp_path / "cards", TRAIN, VALIDATION)))


@pytest.fixture
def splits(source: DataSource) -> DataSplits:
    return source.open("unused")


def names_of(splits: DataSplits) -> list[list[str]]:
    """The class names of every image's objects, as its labels say."""
    return [
        [split.class_names[label - 1] for label in split.labels(i)]
        for split in (splits.train, splits.validation)
        for i in range(len(split))
    ]


def test_a_checkpoint_remembers_the_source_and_its_settings_hold_for_another_folder(
    tmp_path: Path,
) -> None:
    for source in (DataSource(None), DataSource("/", 50, 0.3, 7, True)):
        plain = json.loads(json.dumps(dataclasses.asdict(source)))
        assert DataSource.remembered(plain, "--load x.pth") == source
        expected = dataclasses.replace(source, path=str(tmp_path))
        assert DataSource.remembered(plain, "--load x.pth", path=str(tmp_path)) == expected
    for foreign in ({}, {"path": "/", "unknown": 1}):
        at_home = DataSource.remembered(foreign, "--load x.pth", path=str(tmp_path))
        assert at_home == DataSource(str(tmp_path))
        with pytest.raises(UserError, match="give its folder with -p"):
            DataSource.remembered(foreign, "--load x.pth")


def test_a_remembered_folder_that_is_gone_is_one_line_that_says_to_give_another(
    tmp_path: Path,
) -> None:
    plain = dataclasses.asdict(DataSource(str(tmp_path / "gone")))
    with pytest.raises(UserError) as caught:
        DataSource.remembered(plain, "--resume x.pth")
    message = str(caught.value)
    assert message.startswith("--resume x.pth:") and str(tmp_path / "gone") in message
    assert "-p" in message and "\n" not in message


def test_fraction_and_seed_choose_the_split_of_a_set_that_has_none(tmp_path: Path) -> None:
    folder = write_cards(tmp_path / "cards", {f"{i}.jpg": [ACE] for i in range(20)})

    def held_out(fraction: float, seed: int) -> set[str]:
        opened = DataSource(str(folder), validation_fraction=fraction, seed=seed).open("unused")
        return {a.image_path.name for a in opened.validation.annotations}

    assert len(held_out(0.5, 0)) == 10 and len(held_out(0.1, 0)) == 2
    assert held_out(0.5, 0) == held_out(0.5, 0) != held_out(0.5, 1)


@pytest.mark.parametrize(("images", "validation"), [(10, 1), (35, 3), (1200, 120)])
def test_without_a_folder_cards_are_drawn_into_the_cache(
    images: int, validation: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def draw(cache: Path, train: int, test: int, **more: object) -> Path:
        drawn.append((cache, train, test, more["progress"]))
        return write_cards(tmp_path / "drawn", TRAIN, VALIDATION)

    monkeypatch.setattr(source_module, "demo_cards_folder", draw)
    monkeypatch.setenv("HOME", str(tmp_path))
    progress = print
    splits = DataSource(None, images).open("~/somewhere", progress)
    assert drawn == [(tmp_path / "somewhere", images, validation, progress)]
    assert len(splits.train) == 4


def test_overfit_takes_the_first_training_images_twice_and_says_so(source: DataSource) -> None:
    whole, few = source.open("unused"), source.open("unused", overfit=2)
    first = [a.image_path for a in whole.train.annotations[:2]]
    for split in (few.train, few.validation):
        assert [a.image_path for a in split.annotations] == first
    assert few.class_names == whole.class_names
    assert "--overfit 2" in few.notes[-1] and few.notes[:-1] == whole.notes
    assert len(source.open("unused", overfit=99).train) == 4


@pytest.mark.parametrize(
    ("classes", "other_classes", "names"),
    [
        ((), False, ("ace", "king", "queen")),
        (("queen", "ace", "king"), False, ("queen", "ace", "king")),
        (("queen", "ace", "king"), True, ("queen", "ace", "king")),
        (("ace", "jack"), True, ("ace", "king", "queen")),
    ],
)
def test_a_run_shows_its_data_labelled_by_the_checkpoint_s_classes(
    classes: tuple[str, ...],
    other_classes: bool,
    names: tuple[str, ...],
    source: DataSource,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options: dict[str, Any] = {"class_names": classes, "other_classes": other_classes}
    splits = source.open_for_run("unused", checkpoint="x.pth", **options)
    assert splits.class_names == splits.validation.class_names == names
    out = capsys.readouterr().out
    assert out.startswith("data      playing cards") and f"1 {names[0]} (" in out


@pytest.mark.parametrize(
    ("names", "labels", "notes"),
    [
        (("ace", "king", "queen"), [2, 3], ()),
        (("queen", "ace", "king"), [3, 1], ()),
        (("ace", "jack", "king", "nine", "queen"), [3, 5], ("the data set has no jack, nine",)),
    ],
)
def test_another_list_of_classes_renumbers_the_objects_and_notes_what_the_data_lack(
    names: tuple[str, ...], labels: list[int], notes: tuple[str, ...], splits: DataSplits
) -> None:
    matched = match_classes(splits, names, "the checkpoint x.pth")
    assert matched.class_names == matched.validation.class_names == names
    assert names_of(matched) == names_of(splits) and matched.notes == (*splits.notes, *notes)
    assert matched.train.labels(1) == labels and splits.train.labels(1) == [2, 3]


def test_a_class_that_the_checkpoint_does_not_know_shows_both_lists(source: DataSource) -> None:
    names = ("ace", "king", "jack")
    with pytest.raises(UserError) as caught:
        source.open_for_run("unused", class_names=names, checkpoint="x.pth")
    message = str(caught.value)
    assert "ace, king, queen" in message and "the checkpoint x.pth knows ace, king, jack" in message
    assert "not queen" in message and "\n" not in message


def test_sizes_notes_and_class_ids_are_described(splits: DataSplits, source: DataSource) -> None:
    noted = dataclasses.replace(splits, notes=("one", "two"))
    lines = describe_splits(noted, source)
    assert [label for label, _ in lines] == ["data", "note", "note", "classes"]
    assert "playing cards" in lines[0][1] and str(source.path) in lines[0][1]
    assert "4 training images (4 objects), 2 validation images (3 objects)" in lines[0][1]
    assert [text for _, text in lines[1:3]] == ["one", "two"]
    assert "1 ace (1, 2), 2 king (1, 1), 3 queen (2, 0)" in lines[3][1]
    [(_, drawn), *_] = describe_splits(splits, DataSource(None))
    assert "drawn by the program" in drawn and "-p" in drawn
