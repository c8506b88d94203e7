from __future__ import annotations

from pathlib import Path

import pytest

from data import open_dataset
from data.voc2007_dataset import VOC_CLASSES, VOC2007Dataset
from tests.data_sets import (
    ACE,
    KING,
    Pictures,
    Thing,
    draw_image,
    refusal,
    write_voc,
)

CAT: Thing = ("cat", 1, 1, 64, 48)
DOG: Thing = ("dog", 5, 5, 30, 30)
IDS = ["000001", "000002", "000003", "000004"]
FOUR = dict.fromkeys(IDS, [CAT])
ALL_LISTS = {"train": IDS[:1], "val": IDS[1:2], "trainval": IDS[:2], "test": IDS[2:]}


def ids(dataset: object) -> list[str]:
    return [a.image_path.stem for a in dataset.annotations]  # type: ignore[attr-defined]


def split_ids(folder: Path) -> tuple[list[str], list[str]]:
    splits = open_dataset(folder)
    return ids(splits.train), ids(splits.validation)


@pytest.mark.parametrize("year", ["VOCdevkit/VOC2007", "my_cards"])
@pytest.mark.parametrize("levels", [0, 1, 2])
def test_any_folder_from_the_holder_to_the_year_is_recognised(
    year: str, levels: int, tmp_path: Path
) -> None:
    path = write_voc(tmp_path / year, FOUR, ALL_LISTS)
    splits = open_dataset([path, *path.parents][min(levels, year.count("/") + 1)])
    assert splits.layout == "VOC" and isinstance(splits.train, VOC2007Dataset)
    assert ids(splits.train) == IDS[:2] and ids(splits.validation) == IDS[2:]


def test_a_folder_beside_the_years_is_not_mixed_into_them(tmp_path: Path) -> None:
    write_voc(tmp_path / "VOC2007", FOUR, ALL_LISTS)
    write_voc(tmp_path / "backup", FOUR, ALL_LISTS)
    assert split_ids(tmp_path) == (IDS[:2], IDS[2:])


def test_every_box_at_the_left_and_top_edge_is_kept_or_counted(tmp_path: Path) -> None:
    starts = [(-50, 10), (-50, 0), (-5, 0), (0, 0), (-5, 40), (0, 30), (1, 31)]
    things = [("cat", x, 5, right, 20) for x, right in starts]
    things += [("cat", 5, y, 20, bottom) for y, bottom in starts]
    write_voc(tmp_path, {**FOUR, IDS[0]: things}, ALL_LISTS)
    splits = open_dataset(tmp_path)
    # Three a side stay: clipped and counted, clamped by a pixel without a word, and as it is.
    expected = [[0, 4, right, 20] for right in (40, 30, 31)]
    expected += [[4, 0, 20, bottom] for bottom in (40, 30, 31)]
    assert splits.train.annotations[0].boxes.tolist() == expected
    counted = {
        "boxes without area, dropped": 2,
        "boxes mostly outside of their image, dropped": 2,
        "boxes entirely outside of their image, dropped": 4,
        "boxes that reach over the edge of their image, clipped": 2,
    }
    for what, count in counted.items():
        assert any(n.startswith(f"{what}: {count} (e.g.") for n in splits.notes), splits.notes
    assert not any("by a pixel" in note for note in splits.notes)


def test_without_annotations_of_the_test_images_train_and_val_are_the_splits(
    tmp_path: Path,
) -> None:
    write_voc(tmp_path, {i: [CAT] for i in IDS[:2]}, ALL_LISTS)
    splits = open_dataset(tmp_path)
    assert (ids(splits.train), ids(splits.validation)) == (IDS[:1], IDS[1:2])
    assert any("test.txt is not used, 2 of its 2" in note for note in splits.notes)
    assert any("train is the training split, val the validation" in n for n in splits.notes)


def test_trainval_is_the_union_of_train_and_val_where_it_has_no_list(tmp_path: Path) -> None:
    lists = {name: ALL_LISTS[name] for name in ("train", "val", "test")}
    assert split_ids(write_voc(tmp_path, FOUR, lists)) == (IDS[:2], IDS[2:])


@pytest.mark.parametrize("lists", [None, {"trainval": IDS}, {"train": IDS}])
def test_without_a_second_list_there_is_a_seeded_split(
    tmp_path: Path, lists: dict[str, list[str]] | None
) -> None:
    splits = open_dataset(write_voc(tmp_path, FOUR, lists), validation_fraction=0.5)
    assert sorted(ids(splits.train) + ids(splits.validation)) == IDS and len(splits.train) == 2
    assert any("set aside" in note for note in splits.notes)


def test_without_lists_an_image_without_xml_is_not_taken_for_empty(tmp_path: Path) -> None:
    write_voc(tmp_path, FOUR)
    draw_image(tmp_path / "JPEGImages" / "000009.jpg")
    splits = open_dataset(tmp_path)
    assert "000009" not in ids(splits.train) + ids(splits.validation)
    assert any("without an XML file, not used: 1" in note for note in splits.notes)


def test_several_years_are_united_and_every_trainval_trains_beside_a_test(tmp_path: Path) -> None:
    write_voc(tmp_path / "VOC2007", FOUR, ALL_LISTS)
    later = ["2008_000001", "2008_000002"]
    lists = {"train": later[:1], "val": later[1:], "trainval": later}
    write_voc(tmp_path / "VOC2012", dict.fromkeys(later, [DOG]), lists)
    assert split_ids(tmp_path) == (IDS[:2] + later, IDS[2:])
    (tmp_path / "VOC2007/ImageSets/Main/test.txt").unlink()
    assert split_ids(tmp_path) == (IDS[:1] + later[:1], IDS[1:2] + later[1:])


def test_an_image_that_two_years_contain_is_used_once_and_never_in_both_splits(
    tmp_path: Path,
) -> None:
    same = ["2008_000001", "2008_000002", "2008_000003"]
    pictures = dict.fromkeys(same, [CAT])
    write_voc(tmp_path / "VOC2008", pictures, {"train": same[:2], "val": same[2:]})
    write_voc(tmp_path / "VOC2012", pictures, {"train": same[1:], "val": same[:1]})
    splits = open_dataset(tmp_path)
    assert sorted(ids(splits.train) + ids(splits.validation)) == same
    assert sorted(ids(splits.validation)) == [same[0], same[2]]
    assert any("used once: 3" in note for note in splits.notes)
    for year in ("VOC2008", "VOC2012"):
        (tmp_path / year / "ImageSets/Main/val.txt").unlink()
    splits = open_dataset(tmp_path)
    assert sorted(ids(splits.train) + ids(splits.validation)) == same


def test_same_ids_of_own_folders_are_different_images(tmp_path: Path) -> None:
    for name in ("VOC2007", "VOC2012"):
        write_voc(tmp_path / name, FOUR, ALL_LISTS)
    assert split_ids(tmp_path) == (IDS[:2] * 2, IDS[2:] * 2)


def test_the_twenty_classes_stand_in_the_order_of_the_devkit(tmp_path: Path) -> None:
    assert len(VOC_CLASSES) == 20 and list(VOC_CLASSES) == sorted(VOC_CLASSES)
    splits = open_dataset(write_voc(tmp_path, FOUR, ALL_LISTS))
    assert splits.class_names == VOC_CLASSES


def test_a_set_with_its_own_classes_has_the_names_of_its_annotations(tmp_path: Path) -> None:
    pictures: Pictures = {"a": [KING, CAT], "b": [ACE, KING], "c": [("aec", 1, 1, 9, 9)]}
    lists = {"trainval": ["a", "b"], "test": ["c"]}
    splits = open_dataset(write_voc(tmp_path, pictures, lists))
    assert splits.class_names == ("ace", "cat", "king", "aec")
    assert any("'aec' (did you mean 'ace'?)" in note for note in splits.notes)


@pytest.mark.parametrize(
    ("lists", "shown"),
    [
        ({"train": [*IDS, *(f"lost{i:02}" for i in range(22))], "val": IDS[:1]}, "and 2 more"),
        ({"trainval": IDS[:1], "test": [*IDS[1:], "lost"]}, ": lost"),
    ],
)
def test_listed_images_without_an_xml_are_an_error_and_not_another_split(
    lists: dict[str, list[str]], shown: str, tmp_path: Path
) -> None:
    message = refusal(write_voc(tmp_path, FOUR, lists))
    assert "image(s) of ImageSets without XML in" in message and shown in message


def test_a_list_may_hold_flags_paths_and_extensions(tmp_path: Path) -> None:
    pictures = {"a": [CAT], "b": [CAT], "my cat 1": [CAT], "d": [CAT]}
    lists = {"train": ["a  1", "a", "C:\\x\\b.jpg", "", "my cat 1"], "val": ["d -1"]}
    assert split_ids(write_voc(tmp_path, pictures, lists)) == (["a", "b", "my cat 1"], ["d"])
