from __future__ import annotations

import contextlib
import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO

from data import open_dataset
from data.coco_dataset import CocoDataset
from data.dataset import DataSplits
from evaluation.metrics.coco import CocoEvaluation
from tests.data_sets import (
    ACE,
    COCO_IDS,
    COCO_TRAIN,
    KING,
    SIZE,
    Pictures,
    coco_content,
    draw_image,
    image_names,
    refusal,
    snapshot,
    write_coco,
    write_json,
    write_sole_coco,
    write_text,
)
from tests.image_results import result_from_tensors

VAL: Pictures = {"d.jpg": [KING], "e.jpg": [ACE]}


def write_both(folder: Path) -> Path:
    """The layout of the download: annotations/instances_*2017.json, train2017/ and val2017/."""
    for split, pictures in (("train", COCO_TRAIN), ("val", VAL)):
        json_path = folder / "annotations" / f"instances_{split}2017.json"
        write_coco(json_path, folder / f"{split}2017", pictures)
    return folder


def test_the_download_is_recognised_read_and_left_alone(tmp_path: Path) -> None:
    write_both(tmp_path)
    before = snapshot(tmp_path)
    splits = open_dataset(tmp_path)
    assert splits.layout == "COCO" and isinstance(splits.train, CocoDataset)
    assert image_names(splits.train, splits.validation) == [*COCO_TRAIN, *VAL]
    assert len(splits.train) == 3
    assert splits.train.annotations[0].size == SIZE
    assert snapshot(tmp_path) == before


def test_classes_follow_the_category_ids_and_an_unused_category_is_none(tmp_path: Path) -> None:
    def add_group(content: dict[str, Any]) -> None:
        content["categories"].insert(0, {"id": 0, "name": "cards", "supercategory": "none"})

    assert open_dataset(write_sole_coco(tmp_path, add_group)).class_names == ("king", "ace")


def test_boxes_are_those_that_pycocotools_loads(tmp_path: Path) -> None:
    splits = open_dataset(write_both(tmp_path))
    for split, dataset in (("train", splits.train), ("val", splits.validation)):
        with contextlib.redirect_stdout(io.StringIO()):
            oracle = COCO(tmp_path / f"annotations/instances_{split}2017.json")
        assert len(oracle.imgs) == len(dataset)
        for image_id, annotation in zip(oracle.imgs, dataset.annotations, strict=True):
            rows = oracle.loadAnns(oracle.getAnnIds(image_id))
            boxes = np.array([row["bbox"] for row in rows]).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            assert annotation.boxes.dtype == np.float32
            np.testing.assert_allclose(annotation.boxes, boxes, rtol=1e-6)
            stated = [oracle.cats[row["category_id"]]["name"] for row in rows]
            assert list(annotation.names) == stated


def test_splits_that_number_the_same_names_differently_agree(tmp_path: Path) -> None:
    write_both(tmp_path)
    other = coco_content(VAL, {"ace": 3, "king": 90})
    write_json(tmp_path / "annotations/instances_val2017.json", other)
    assert [a.names for a in open_dataset(tmp_path).validation.annotations] == [("king",), ("ace",)]


def test_the_export_with_a_file_in_each_split_folder_is_read(tmp_path: Path) -> None:
    for split, pictures in (("train", COCO_TRAIN), ("valid", VAL), ("test", VAL)):
        folder = tmp_path / split
        write_coco(folder / "_annotations.coco.json", folder, pictures)
    splits = open_dataset(tmp_path)
    assert image_names(splits.train) == list(COCO_TRAIN)
    assert splits.validation.annotations[0].image_path == tmp_path / "valid" / "d.jpg"
    assert any(n == "not used: test/_annotations.coco.json" for n in splits.notes)


@pytest.mark.parametrize(
    ("json_name", "images"),
    [
        ("annotations/train.json", "train"), ("annotations/train.json", "images/train"),
        ("annotations/instances_Train.json", "images/Train"), ("annotations/my_cards.json", "."),
        ("annotations/instances_default.json", "images/default"), ("labels.json", "data"),
        ("result.json", "images"), ("train/labels.json", "train/data"), ("train.json", "train"),
    ],
)  # fmt: skip
def test_what_tools_export_without_a_validation_split_is_split_by_seed(
    tmp_path: Path, json_name: str, images: str
) -> None:
    write_coco(tmp_path / json_name, tmp_path / images, COCO_TRAIN)
    splits = open_dataset(tmp_path, validation_fraction=0.3)
    assert sorted(image_names(splits.train, splits.validation)) == list(COCO_TRAIN)
    assert len(splits.validation) == 1 and any("set aside" in n for n in splits.notes)


def test_files_of_other_tasks_are_passed_over_and_two_for_one_split_refused(tmp_path: Path) -> None:
    write_both(tmp_path)
    for task in ("captions", "person_keypoints"):
        write_text(tmp_path / "annotations" / f"{task}_train2017.json", "{}")
    assert len(open_dataset(tmp_path).train) == 3
    write_text(tmp_path / "annotations" / "instances_train2014.json", "{}")
    assert "several COCO files for training" in refusal(tmp_path)


def test_a_validation_file_alone_is_no_data_set_to_train_on(tmp_path: Path) -> None:
    write_coco(tmp_path / "annotations/val.json", tmp_path / "val", COCO_TRAIN)
    assert "no COCO file for training; found annotations/val.json" in refusal(tmp_path)


def test_equal_names_in_stated_folders_are_different_images(tmp_path: Path) -> None:
    pictures: Pictures = {"one/a.jpg": [ACE], "two\\a.jpg": [KING]}
    write_json(tmp_path / "annotations/train.json", coco_content(pictures, COCO_IDS))
    write_json(tmp_path / "annotations/val.json", coco_content({"v.jpg": [ACE]}, COCO_IDS))
    for name in ("train/one/a.jpg", "train/two/a.jpg", "val/v.jpg"):
        draw_image(tmp_path / name)
    folders = [a.image_path.parent.name for a in open_dataset(tmp_path).train.annotations]
    assert folders == ["one", "two"]


def test_splits_numbered_alike_never_take_each_others_images(tmp_path: Path) -> None:
    write_both(tmp_path)
    draw_image(tmp_path / "train2017" / "d.jpg")
    assert open_dataset(tmp_path).validation.path(0) == tmp_path / "val2017" / "d.jpg"
    (tmp_path / "val2017" / "d.jpg").unlink()
    message = refusal(tmp_path)
    assert "1 image(s) not found in" in message and "image 7, 'd.jpg'" in message


def test_images_without_an_entry_are_counted_and_those_without_annotations_kept(
    tmp_path: Path,
) -> None:
    write_both(tmp_path)
    draw_image(tmp_path / "train2017" / "z.jpg")
    splits = open_dataset(tmp_path)
    assert splits.train.annotations[2].boxes.shape == (0, 4)
    assert any("no COCO file names, not used: 1" in n and "z.jpg" in n for n in splits.notes)


def test_boxes_without_area_and_duplicates_are_dropped_and_counted(tmp_path: Path) -> None:
    def edit(content: dict[str, Any]) -> None:
        first = content["annotations"][0]
        content["annotations"] += [{**first, "id": 1}, {**first, "id": 2, "bbox": [1, 1, 0, 5]}]

    splits = open_dataset(write_sole_coco(tmp_path, edit), validation_fraction=0.3)
    assert splits.train.label_counts() + splits.validation.label_counts() == {"ace": 2, "king": 1}
    assert any("without area, dropped: 1" in n and "annotation 2" in n for n in splits.notes)
    assert any("duplicate annotations, removed: 1" in n for n in splits.notes)


def crowd(image_id: int, category_id: int, bbox: list[float]) -> dict[str, Any]:
    return {
        "id": 5, "image_id": image_id, "category_id": category_id, "bbox": bbox, "iscrowd": 1
    }  # fmt: skip


def write_crowds(folder: Path) -> DataSplits:
    """A crowd of kings on the first image of each split, and one of a class that is not learned."""
    write_both(folder)
    for split, pictures in (("train", COCO_TRAIN), ("val", VAL)):
        content = coco_content(pictures, {**COCO_IDS, "joker": 4})
        content["annotations"].insert(0, crowd(7, COCO_IDS["king"], [0, 0, 25, 40]))
        content["annotations"].append(crowd(17, 4, [0, 0, 25, 40]))
        write_json(folder / f"annotations/instances_{split}2017.json", content)
    return open_dataset(folder)


def test_crowds_are_not_learned_and_kept_for_evaluation_as_difficult(tmp_path: Path) -> None:
    splits = write_crowds(tmp_path)
    assert not any(a.difficult.any() for a in splits.train.annotations)
    assert splits.train.label_counts() == {"ace": 2, "king": 1}
    judged = splits.validation.annotations[0]
    assert judged.names == ("king", "king") and judged.difficult.tolist() == [False, True]
    assert judged.boxes.tolist() == [[30, 10, 60, 44], [0, 0, 25, 40]]
    assert splits.class_names == ("king", "ace")
    assert any("crowd regions: not trained on, ignored in evaluation: 4" in n for n in splits.notes)
    assert any("classes that are not learned, dropped: 1" in n for n in splits.notes)


def test_every_detection_inside_a_crowd_costs_nothing_as_in_pycocotools(tmp_path: Path) -> None:
    splits = write_crowds(tmp_path)
    image, target = splits.validation[0]
    crowd_box, king = target["boxes"][1], target["boxes"][0]
    small = crowd_box / torch.tensor([2, 2, 2, 2])
    other = small + torch.tensor([5, 5, 5, 5])
    detection = {
        "boxes": torch.stack([crowd_box, small, other, king]),
        "scores": torch.tensor([0.9, 0.8, 0.7, 0.6]),
        "labels": torch.tensor([1, 1, 1, 1]),
    }
    result = result_from_tensors(target, detection)
    assert CocoEvaluation([result], splits.class_names).metrics.map == pytest.approx(1.0)
    truth = dataclasses.replace(result.ground_truth, crowd=None)
    result = dataclasses.replace(result, ground_truth=truth)
    assert CocoEvaluation([result], splits.class_names).metrics.map == pytest.approx(
        1 / 3, abs=0.01
    )


def test_where_images_are_set_aside_their_crowds_go_to_validation_alone(tmp_path: Path) -> None:
    def edit(content: dict[str, Any]) -> None:
        content["annotations"] += [
            {**crowd(image["id"], 90, [0, 0, 9, 9]), "id": i}
            for i, image in enumerate(content["images"])
        ]

    splits = open_dataset(write_sole_coco(tmp_path, edit), validation_fraction=0.3)
    assert [int(a.difficult.sum()) for a in splits.train.annotations] == [0, 0]
    assert [int(a.difficult.sum()) for a in splits.validation.annotations] == [1]
