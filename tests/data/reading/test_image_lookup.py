"""Images by the paths that a CSV states, whatever machine wrote them."""

from __future__ import annotations

from pathlib import Path

import pytest

from data import open_dataset
from tests.data_sets import ACE, csv_text, draw_image, refusal, write_rows, write_text


@pytest.mark.parametrize("stated", ["A.JPG", "C:\\cards\\a.jpg", "/mnt/x/a.jpg", "a.png", "a"])
def test_a_file_name_is_matched_without_path_case_and_extension(
    tmp_path: Path, stated: str
) -> None:
    splits = open_dataset(write_rows(tmp_path, f"{stated},64,48,ace,1,1,9,9"))
    assert splits.train.path(0) == tmp_path / "train" / "a.jpg"


def test_the_exact_name_wins_over_another_case_and_that_over_another_extension(
    tmp_path: Path,
) -> None:
    for name in ("a.JPG", "A.jpg", "a.png", "b.PNG"):
        draw_image(tmp_path / "train" / name)
    exact = {name: name for name in ("a.JPG", "A.jpg", "a.jpg", "a.png")}
    for stated, name in {**exact, "B.png": "b.PNG", "B.jpg": "b.jpg"}.items():
        write_rows(tmp_path, f"{stated},,,ace,1,1,9,9")
        assert open_dataset(tmp_path).train.path(0).name == name


@pytest.mark.parametrize(
    "stated",
    [
        "photos/cam1/a.jpg", "./photos//cam1/a.jpg", "photos\\cam1\\a.jpg",
        "C:\\cards\\photos\\cam1\\a.jpg", "/home/me/cards/Photos/cam1/A.JPG",
        "../cards/photos/cam1/a.png",
    ],
)  # fmt: skip
def test_a_path_finds_an_image_in_its_own_folder(tmp_path: Path, stated: str) -> None:
    for camera in ("cam1", "cam2"):
        draw_image(tmp_path / "photos" / camera / "a.jpg")
    other = stated.replace("cam1", "cam2")
    write_rows(tmp_path, f"{other},,,king,1,1,9,9", f"{stated},,,ace,1,1,9,9")
    splits = open_dataset(tmp_path)
    images = {a.names: a.image_path.relative_to(tmp_path) for a in splits.train.annotations}
    assert images == {("king",): Path("photos/cam2/a.jpg"), ("ace",): Path("photos/cam1/a.jpg")}


def test_folders_of_a_path_may_differ_in_capitals_alone(tmp_path: Path) -> None:
    for camera in ("Cam", "cam"):
        draw_image(tmp_path / camera / "a.jpg")
    rows = [f"{camera}/a.jpg,,,ace,1,1,9,9" for camera in ("cam", "Cam")]
    splits = open_dataset(write_rows(tmp_path, *rows))
    assert [a.image_path.parent.name for a in splits.train.annotations] == ["cam", "Cam"]


@pytest.mark.parametrize("csv_at", [".", "data"])
def test_a_path_starts_at_the_csv_then_at_the_data_set_then_anywhere(
    tmp_path: Path, csv_at: str
) -> None:
    write_text(tmp_path / csv_at / "test_labels.csv", csv_text({"c/c.jpg": [ACE]}))
    write_text(tmp_path / csv_at / "train_labels.csv", csv_text({"c/a.jpg": [ACE]}))
    draw_image(tmp_path / "c" / "c.jpg")
    places = [tmp_path / place / "c" for place in (csv_at, ".", "train", "images")]
    for place in places:
        draw_image(place / "a.jpg")
    for place in dict.fromkeys(places):
        assert open_dataset(tmp_path).train.path(0).parent == place
        (place / "a.jpg").unlink()
    draw_image(tmp_path / "train" / "a.jpg")
    assert open_dataset(tmp_path).train.path(0).parent == tmp_path / "train"


def test_a_path_through_a_link_counts_where_it_leads_inside(tmp_path: Path) -> None:
    inside, outside = tmp_path / "data", tmp_path / "outside"
    draw_image(inside / "photos" / "x.jpg")
    draw_image(outside / "x.jpg")
    (inside / "inner").symlink_to("photos", target_is_directory=True)
    (inside / "outer").symlink_to(outside, target_is_directory=True)
    write_rows(inside, "inner/x.jpg,,,ace,1,1,9,9")
    assert open_dataset(inside).train.path(0) == inside / "inner" / "x.jpg"
    leading_out = ("outer", "../outside", "photos/../../outside", outside)
    for stated in leading_out:
        assert "not found" in refusal(write_rows(inside, f"{stated}/x.jpg,,,ace,1,1,9,9"))


def test_paths_of_any_length_are_looked_up_without_trouble(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(".", target_is_directory=True)
    for folders in ("loop/" * 20_000, "x/" * 40_000):
        splits = open_dataset(write_rows(tmp_path, f"{folders}train/a.jpg,,,ace,1,1,9,9"))
        assert splits.train.path(0).samefile(tmp_path / "train" / "a.jpg")
