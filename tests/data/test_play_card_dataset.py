from __future__ import annotations

from pathlib import Path

import pytest

from data import open_dataset
from data.play_card_dataset import PlayCardDataset
from tests.data_sets import (
    ACE,
    KING,
    csv_text,
    draw_image,
    refusal,
    write_cards,
    write_rows,
    write_text,
)

TRAIN = {"a.jpg": [ACE, KING], "b.jpg": [KING]}
TEST = {"c.jpg": [ACE]}


def test_rows_of_one_image_are_one_record(tmp_path: Path) -> None:
    splits = open_dataset(write_cards(tmp_path, TRAIN, TEST))
    assert splits.layout == "playing cards" and isinstance(splits.train, PlayCardDataset)
    first, second = splits.train.annotations
    assert first.image_path == tmp_path / "train" / "a.jpg" and first.names == ("ace", "king")
    assert first.boxes.tolist() == [list(ACE[1:]), list(KING[1:])] and first.size == (64, 48)
    assert second.names == ("king",) and len(splits.validation) == 1
    assert splits.class_names == ("ace", "king") and splits.notes == ()


@pytest.mark.parametrize(
    ("csv_at", "images_at"),
    [
        ("", "{split}"), ("", ""), ("", "play_cards"), ("", "images"), ("", "play_cards/{split}"),
        ("", "Images/{split}"), ("images", "images/{split}"), ("play_cards", "play_cards"),
        ("data", "images/{split}"), ("data", "data/images"), ("data", "{split}"),
    ],
)  # fmt: skip
def test_the_images_are_found_wherever_such_sets_keep_them(
    tmp_path: Path, csv_at: str, images_at: str
) -> None:
    for split, pictures in (("train", TRAIN), ("test", TEST)):
        write_text(tmp_path / csv_at / f"{split}_labels.csv", csv_text(pictures))
        for name, things in pictures.items():
            draw_image(tmp_path / images_at.format(split=split) / name, things)
    splits = open_dataset(tmp_path)
    assert splits.layout == "playing cards"
    assert (len(splits.train), len(splits.validation)) == (2, 1) and splits.notes == ()


def test_an_image_is_taken_from_the_folder_of_its_split(tmp_path: Path) -> None:
    write_cards(tmp_path, TRAIN, {"a.jpg": [ACE]})
    draw_image(tmp_path / "a.jpg")
    splits = open_dataset(tmp_path)
    assert splits.train.path(0) == tmp_path / "train" / "a.jpg"
    assert splits.validation.path(0) == tmp_path / "test" / "a.jpg"


def test_rows_that_disagree_about_their_image_are_counted(tmp_path: Path) -> None:
    rows = ["a.jpg,64,48,ace,1,1,9,9", "x/A.jpg,48,64,king,1,1,9,9"]
    splits = open_dataset(write_rows(tmp_path, *rows))
    assert splits.train.annotations[0].size == (64, 48)
    assert any("another image size" in n and ": 1 " in n for n in splits.notes)
    assert any("in another way" in n and ": 1 " in n for n in splits.notes)


def test_columns_are_found_by_header_and_size_is_optional(tmp_path: Path) -> None:
    header = "\ufeff YMAX ,xmax,Class, ymin,xmin,FileName"
    write_rows(tmp_path, " 30 , 20.5, ace ,6,4,a.jpg", "", ",,,,,", header=header)
    record = open_dataset(tmp_path).train.annotations[0]
    assert record.boxes.tolist() == [[4, 6, 20.5, 30]]
    assert record.names == ("ace",) and record.size == (64, 48)  # the image's


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_the_semicolons_of_a_spreadsheet_are_read(tmp_path: Path, delimiter: str) -> None:
    write_cards(tmp_path, TRAIN, TEST)
    write_text(tmp_path / "train_labels.csv", csv_text(TRAIN).replace(",", delimiter))
    assert len(open_dataset(tmp_path).train) == 2


@pytest.mark.parametrize(
    ("negative", "row", "columns"),
    [
        ("a.jpg,,,,,", "b.jpg,4,6,20,30,ace", "filename,xmin,ymin,xmax,ymax,class"),
        ("a.jpg,,,,,", "b.jpg,ace,4,6,20,30", "filename,class,xmin,ymin,xmax,ymax"),
        ("a.jpg,64,48,,,,,", "b.jpg,64,48,ace,4,6,20,30", "filename,width,height,class"),
        ("a.jpg,,,,,,,", "b.jpg,64,48,ace,4,6,20,30", "filename,width,height,class"),
    ],
)
def test_a_file_without_header_may_begin_with_images_without_objects(
    tmp_path: Path, negative: str, row: str, columns: str
) -> None:
    draw_image(tmp_path / "train" / "d.jpg")
    write_rows(tmp_path, negative.replace("a.jpg", "d.jpg"), row, header=negative)
    splits = open_dataset(tmp_path)
    assert [a.image_path.name for a in splits.train.annotations] == ["a.jpg", "d.jpg", "b.jpg"]
    assert splits.train.annotations[2].boxes.tolist() == [[4, 6, 20, 30]]
    assert any(f"no header; the columns are taken as {columns}" in n for n in splits.notes)


def test_a_file_of_images_without_objects_alone_needs_no_header_either(tmp_path: Path) -> None:
    write_cards(tmp_path, TRAIN, TEST)
    write_text(tmp_path / "test_labels.csv", "c.jpg,,,,,\n")
    (record,) = open_dataset(tmp_path).validation.annotations
    assert record.image_path.name == "c.jpg" and record.names == ()


def test_a_title_above_the_header_is_not_taken_for_an_image(tmp_path: Path) -> None:
    write_rows(tmp_path, "filename,class,xmin,ymin,xmax,ymax", header="My cards,,,,,")
    assert "line 1: no column filename" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("a.jpg,64,48,ace,1,1,x9,9", "xmax is 'x9'"),
        ("a.jpg,64,48,ace,1,1,,9", "xmax is missing"),
        ("a.jpg,64,48,ace,1,1,9", "ymax is missing"),
        ("a.jpg,64,48,ace,9,1,1,9", "xmin 9, ymin 1, xmax 1, ymax 9"),
        ("a.jpg,64,48,,1,1,9,9", "the class is empty"),
        (",64,48,ace,1,1,9,9", "the filename is empty"),
        ("a.jpg,wide,48,ace,1,1,9,9", "width is 'wide'"),
        ("a.jpg,64,48,ace,1,1,9,9,7", "9 cells, but there are 8 columns"),
        ('"a.jpg,64,48,ace,1,1,9,9', "not readable as CSV"),
    ],
)
def test_a_bad_row_is_an_error_with_file_line_and_value(
    tmp_path: Path, row: str, problem: str
) -> None:
    message = refusal(write_rows(tmp_path, "b.jpg,64,48,king,1,1,9,9", "", row))
    assert "train_labels.csv, line 4" in message and problem in message


def test_duplicates_and_boxes_without_area_or_outside_are_dropped_and_their_image_stays(
    tmp_path: Path,
) -> None:
    twice = "b.jpg,64,48,ace,1,1,9,9"
    rows = ["a.jpg,64,48,ace,5,5,5,9", twice, "b.jpg,,,ace,70,1,90,9", twice]
    splits = open_dataset(write_rows(tmp_path, *rows, twice.replace("ace", "king")))
    assert [a.names for a in splits.train.annotations] == [(), ("ace", "king")]
    assert any("without area" in n and "line 2, 'ace'" in n for n in splits.notes)
    assert any("outside" in n and "b.jpg, 'ace' (70, 1, 90, 9)" in n for n in splits.notes)
    assert any(n.startswith("duplicate rows, removed: 1 (e.g. ") for n in splits.notes)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    write_rows(tmp_path, "a.jpg,ace,1,1,9", header="filename,label,xmin,ymin,xmax")
    assert "line 1: no column class, ymax" in refusal(tmp_path)
    write_rows(tmp_path, header="filename,class,xmin,ymin,xmax,ymax,xmin")
    assert "more than once" in refusal(tmp_path)
    write_text(tmp_path / "train_labels.csv", "\n\n")
    assert "the file is empty" in refusal(tmp_path)


def test_text_of_another_encoding_is_an_error_with_its_line(tmp_path: Path) -> None:
    write_cards(tmp_path, TRAIN, TEST)
    text = csv_text({"a.jpg": [("dáma", 1, 1, 9, 9)]})
    write_text(tmp_path / "train_labels.csv", text, "latin-1")
    assert "train_labels.csv, line 2: not UTF-8 text" in refusal(tmp_path)


def test_a_training_csv_alone_is_split_and_a_test_csv_alone_is_an_error(tmp_path: Path) -> None:
    write_cards(tmp_path, {f"{i}.jpg": [ACE] for i in range(10)}, TEST)
    (tmp_path / "test_labels.csv").rename(tmp_path / "unused.csv")
    splits = open_dataset(tmp_path, validation_fraction=0.3)
    assert (len(splits.train), len(splits.validation)) == (7, 3)
    assert any("set aside" in note for note in splits.notes)
    (tmp_path / "unused.csv").rename(tmp_path / "test_labels.csv")
    (tmp_path / "train_labels.csv").unlink()
    assert "no train_labels.csv" in refusal(tmp_path)
