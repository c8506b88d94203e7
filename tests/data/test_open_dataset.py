from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import ImageFile

from data import open_dataset
from tests.data_sets import (
    ACE,
    KING,
    csv_text,
    draw_image,
    refusal,
    snapshot,
    write_cards,
    write_charlotte,
    write_text,
    write_voc,
)

TWO = {"a.jpg": [ACE], "b.jpg": [ACE, KING]}


def test_each_layout_is_recognised_and_a_csv_wins_over_voc_folders_and_those_over_flat_xml(
    tmp_path: Path,
) -> None:
    for layout, write in (
        ("Charlotte", lambda: write_charlotte(tmp_path, TWO)),
        ("VOC", lambda: write_voc(tmp_path, {"a": [ACE], "b": [ACE]})),
        ("playing cards", lambda: write_cards(tmp_path, TWO, TWO)),
    ):
        write()
        before = snapshot(tmp_path)
        splits = open_dataset(str(tmp_path))
        assert splits.layout == layout
        assert splits.train.class_names == splits.validation.class_names == splits.class_names
        assert snapshot(tmp_path) == before


def test_no_picture_that_seems_whole_is_decoded_while_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cards(tmp_path, TWO, {"c.png": [ACE]})
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    assert len(open_dataset(tmp_path).train) == 2


def test_for_an_unknown_folder_the_error_lists_its_contents_and_what_was_looked_for(
    tmp_path: Path,
) -> None:
    for i in range(3):
        draw_image(tmp_path / f"{i}.jpg")
        write_text(tmp_path / f"{i}.txt", "0 0.5 0.5 1 1")
    (tmp_path / "labels").mkdir()
    message = refusal(tmp_path)
    assert "found 3 images, 3 .txt file(s), the folder(s) labels" in message
    for sought in ("train_labels.csv", "VOCdevkit/", "JPEGImages/", "LabelImg .xml"):
        assert sought in message


def test_a_data_set_one_folder_further_in_is_pointed_at(tmp_path: Path) -> None:
    write_cards(tmp_path / "unzipped", TWO, TWO)
    assert f"looks like playing cards: give {tmp_path / 'unzipped'}" in refusal(tmp_path)


def test_a_path_that_is_absent_a_file_or_empty_has_its_own_line(tmp_path: Path) -> None:
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards" / ".DS_Store").touch()
    (tmp_path / "cards.zip").touch()
    assert "no such folder (did you mean 'cards'?)" in refusal(tmp_path / "card")
    assert "no such folder" in refusal(tmp_path / "no" / "parent")
    assert "no such folder" in refusal(tmp_path / ("x" * 5000))
    assert "this is a file" in refusal(tmp_path / "cards.zip")
    assert "the folder is empty" in refusal(tmp_path / "cards")
    assert "the path of the data set is empty" in refusal("")


def test_a_split_without_an_image_and_a_training_without_an_object_are_errors(
    tmp_path: Path,
) -> None:
    assert "the validation split has no image" in refusal(write_cards(tmp_path, TWO, {}))
    write_cards(tmp_path, {}, TWO)
    assert "the training split has 0 image(s)" in refusal(tmp_path)
    write_cards(tmp_path, {"a.jpg": []}, TWO)
    assert "the training split has 1 image(s) without any object" in refusal(tmp_path)


@pytest.mark.parametrize("stated", ["../secret.jpg", "{outside}/secret.jpg", "..", "link.jpg"])
def test_no_file_outside_of_the_folder_is_ever_used(tmp_path: Path, stated: str) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    draw_image(outside / "secret.jpg")
    write_cards(inside, TWO, TWO)
    (inside / "train" / "link.jpg").symlink_to(outside / "secret.jpg")
    stated = stated.format(outside=outside)
    write_text(inside / "train_labels.csv", csv_text({stated: [ACE]}))
    message = refusal(inside)
    assert "1 image(s) not found in" in message and repr(stated) in message
    assert "1 symbolic link(s) that lead out of the folder were not followed" in message


def test_links_inside_the_folder_and_a_link_to_the_folder_are_followed(tmp_path: Path) -> None:
    real = write_charlotte(tmp_path / "real", TWO)
    (real / "pool").mkdir()
    (real / "a.jpg").rename(real / "pool" / "a.jpg")
    (real / "a.jpg").symlink_to(Path("pool") / "a.jpg")
    (tmp_path / "alias").symlink_to(real, target_is_directory=True)
    assert len(open_dataset(tmp_path / "alias").train) == 1


def test_dangling_and_circular_links_and_pipes_are_no_images(tmp_path: Path) -> None:
    write_charlotte(tmp_path, TWO)
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    splits = open_dataset(tmp_path)
    assert len(splits.train) + len(splits.validation) == 2
