from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import json
import random
from collections.abc import Callable, Mapping
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
from evaluation.metrics.results import ImageResult
from tests.data_sets import ACE, KING, SIZE, Pictures, Thing, draw_image, write_text
from utils.errors import UserError

DECIMAL: Thing = ("ace", 3.25, 5.1, 20.7, 31.3)
TRAIN: Pictures = {"a.jpg": [ACE, KING], "b.jpg": [DECIMAL], "c.jpg": []}
VAL: Pictures = {"d.jpg": [KING], "e.jpg": [ACE]}
IDS = {"king": 3, "ace": 90}


def coco(pictures: Pictures, ids: Mapping[str, int] = IDS) -> dict[str, Any]:
    """What a COCO file holds; image ids neither start at 1 nor follow one another."""
    images = [
        {"id": 7 + 10 * i, "file_name": name, "width": SIZE[0], "height": SIZE[1]}
        for i, name in enumerate(pictures)
    ]
    annotations = [
        {
            "id": 100 * image["id"] + k,
            "image_id": image["id"],
            "category_id": ids[name],
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": (x1 - x0) * (y1 - y0),
            "iscrowd": 0,
        }
        for image, things in zip(images, pictures.values(), strict=True)
        for k, (name, x0, y0, x1, y1) in enumerate(things)
    ]
    categories = [{"id": i, "name": n, "supercategory": "cards"} for n, i in ids.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_coco(
    path: Path, content: object, images: Path | None, pictures: Pictures = TRAIN
) -> Path:
    """One JSON, and its pictures into ``images``."""
    write_text(path, json.dumps(content))
    for name, things in pictures.items() if images else ():
        draw_image(images / name, things)  # type: ignore[operator]
    return path


def write_both(folder: Path) -> Path:
    """The layout of the download: annotations/instances_*2017.json, train2017/ and val2017/."""
    for split, pictures in (("train", TRAIN), ("val", VAL)):
        path = folder / "annotations" / f"instances_{split}2017.json"
        write_coco(path, coco(pictures), folder / f"{split}2017", pictures)
    return folder


def write_one(folder: Path, edit: Callable[[dict[str, Any]], object] | None = None) -> Path:
    """A single JSON without a split, edited, and its images."""
    content = coco(TRAIN)
    if edit:
        edit(content)
    write_coco(folder / "annotations" / "instances_default.json", content, folder / "images")
    return folder


def error(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        open_dataset(path, validation_fraction=0.3)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def names(dataset: Any) -> list[str]:
    return [a.image_path.name for a in dataset.annotations]


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(p): (p.stat().st_mtime_ns, p.read_bytes() if p.is_file() else b"")
        for p in [folder, *folder.rglob("*")]
    }


def test_the_download_is_recognised_read_and_left_alone(tmp_path: Path) -> None:
    write_both(tmp_path)
    before = snapshot(tmp_path)
    splits = open_dataset(tmp_path)
    assert splits.layout == "COCO" and isinstance(splits.train, CocoDataset)
    assert names(splits.train) == list(TRAIN) and names(splits.validation) == list(VAL)
    assert splits.train.annotations[0].size == SIZE
    assert snapshot(tmp_path) == before


def test_classes_follow_the_category_ids_and_an_unused_category_is_none(tmp_path: Path) -> None:
    def add_group(content: dict[str, Any]) -> None:
        content["categories"].insert(0, {"id": 0, "name": "cards", "supercategory": "none"})

    assert open_dataset(write_one(tmp_path, add_group)).class_names == ("king", "ace")


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
    other = coco(VAL, {"ace": 3, "king": 90})
    write_coco(tmp_path / "annotations/instances_val2017.json", other, None)
    assert [a.names for a in open_dataset(tmp_path).validation.annotations] == [("king",), ("ace",)]


def test_the_export_with_a_file_in_each_split_folder_is_read(tmp_path: Path) -> None:
    for split, pictures in (("train", TRAIN), ("valid", VAL), ("test", VAL)):
        folder = tmp_path / split
        write_coco(folder / "_annotations.coco.json", coco(pictures), folder, pictures)
    splits = open_dataset(tmp_path)
    assert names(splits.train) == list(TRAIN)
    assert splits.validation.annotations[0].image_path == tmp_path / "valid" / "d.jpg"
    assert any(n == "not used: test/_annotations.coco.json" for n in splits.notes)


@pytest.mark.parametrize(
    ("json_name", "images"),
    [
        ("annotations/train.json", "train"),
        ("annotations/train.json", "images/train"),
        ("annotations/instances_Train.json", "images/Train"),
        ("annotations/instances_default.json", "images/default"),
        ("annotations/my_cards.json", "."),
        ("labels.json", "data"),
        ("result.json", "images"),
        ("train/labels.json", "train/data"),
        ("train.json", "train"),
    ],
)
def test_what_tools_export_without_a_validation_split_is_split_by_seed(
    tmp_path: Path, json_name: str, images: str
) -> None:
    write_coco(tmp_path / json_name, coco(TRAIN), tmp_path / images)
    splits = open_dataset(tmp_path, validation_fraction=0.3)
    assert sorted(names(splits.train) + names(splits.validation)) == list(TRAIN)
    assert len(splits.validation) == 1 and any("set aside" in n for n in splits.notes)


def test_files_of_other_tasks_are_passed_over_and_two_for_one_split_refused(tmp_path: Path) -> None:
    write_both(tmp_path)
    for task in ("captions", "person_keypoints"):
        write_text(tmp_path / "annotations" / f"{task}_train2017.json", "{}")
    assert len(open_dataset(tmp_path).train) == 3
    write_text(tmp_path / "annotations" / "instances_train2014.json", "{}")
    assert "several COCO files for training" in error(tmp_path)


def test_a_validation_file_alone_is_no_data_set_to_train_on(tmp_path: Path) -> None:
    write_coco(tmp_path / "annotations/val.json", coco(TRAIN), tmp_path / "val")
    assert "no COCO file for training; found annotations/val.json" in error(tmp_path)


@pytest.mark.parametrize("stated", ["C:\\x\\train\\a.jpg", "/home/me/x/a.jpg", "../../a.JPG"])
def test_an_image_is_looked_up_by_the_last_part_of_its_path(tmp_path: Path, stated: str) -> None:
    write_one(tmp_path, lambda c: c["images"][0].update(file_name=stated))
    splits = open_dataset(tmp_path, validation_fraction=0.3)
    assert sorted(names(splits.train) + names(splits.validation)) == list(TRAIN)


def test_equal_names_in_stated_folders_are_different_images(tmp_path: Path) -> None:
    pictures: Pictures = {"one/a.jpg": [ACE], "two\\a.jpg": [KING]}
    write_coco(tmp_path / "annotations/train.json", coco(pictures), None)
    write_coco(tmp_path / "annotations/val.json", coco({"v.jpg": [ACE]}), None)
    for name in ("train/one/a.jpg", "train/two/a.jpg", "val/v.jpg"):
        draw_image(tmp_path / name)
    found = [a.image_path.parent.name for a in open_dataset(tmp_path).train.annotations]
    assert found == ["one", "two"]


def test_splits_numbered_alike_never_take_each_others_images(tmp_path: Path) -> None:
    write_both(tmp_path)
    draw_image(tmp_path / "train2017" / "d.jpg")
    assert open_dataset(tmp_path).validation.path(0) == tmp_path / "val2017" / "d.jpg"
    (tmp_path / "val2017" / "d.jpg").unlink()
    message = error(tmp_path)
    assert "1 image(s) not found in" in message and "image 7, 'd.jpg'" in message


@pytest.mark.parametrize("stated", ["../outside/secret.jpg", "{outside}/secret.jpg", "link.jpg"])
def test_no_file_outside_of_the_folder_is_ever_used(tmp_path: Path, stated: str) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    draw_image(outside / "secret.jpg")
    stated = stated.format(outside=outside)
    write_one(inside, lambda c: c["images"][0].update(file_name=stated))
    (inside / "images" / "link.jpg").symlink_to(outside / "secret.jpg")
    message = error(inside)
    assert "1 image(s) not found" in message and "were not followed" in message


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

    splits = open_dataset(write_one(tmp_path, edit), validation_fraction=0.3)
    assert splits.train.label_counts() + splits.validation.label_counts() == {"ace": 2, "king": 1}
    assert any("without area, dropped: 1" in n and "annotation 2" in n for n in splits.notes)
    assert any("duplicate annotations, removed: 1" in n for n in splits.notes)


def crowd(image_id: int, category_id: int, bbox: list[float]) -> dict[str, Any]:
    return {
        "id": 5, "image_id": image_id, "category_id": category_id, "bbox": bbox, "iscrowd": 1
    }  # fmt: skip


def write_crowds(folder: Path) -> DataSplits:
    """A crowd of kings on the first image of each split, and one of a class that nobody learns."""
    write_both(folder)
    for split, pictures in (("train", TRAIN), ("val", VAL)):
        content = coco(pictures, {**IDS, "joker": 4})
        content["annotations"].insert(0, crowd(7, IDS["king"], [0, 0, 25, 40]))
        content["annotations"].append(crowd(17, 4, [0, 0, 25, 40]))
        write_coco(folder / f"annotations/instances_{split}2017.json", content, None)
    return open_dataset(folder)


def test_crowds_are_not_learnt_and_kept_for_evaluation_as_difficult(tmp_path: Path) -> None:
    splits = write_crowds(tmp_path)
    assert not any(a.difficult.any() for a in splits.train.annotations)
    assert splits.train.label_counts() == {"ace": 2, "king": 1}
    judged = splits.validation.annotations[0]
    assert judged.names == ("king", "king") and judged.difficult.tolist() == [False, True]
    assert judged.boxes.tolist() == [[30, 10, 60, 44], [0, 0, 25, 40]]
    assert splits.class_names == ("king", "ace")
    assert any("crowd regions, neither learnt nor judged: 4" in n for n in splits.notes)
    assert any("classes that are not learnt, dropped: 1" in n for n in splits.notes)


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
    result = ImageResult.from_tensors(target, detection)
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

    splits = open_dataset(write_one(tmp_path, edit), validation_fraction=0.3)
    assert [int(a.difficult.sum()) for a in splits.train.annotations] == [0, 0]
    assert [int(a.difficult.sum()) for a in splits.validation.annotations] == [1]


def test_a_class_that_only_validation_has_is_an_error(tmp_path: Path) -> None:
    write_both(tmp_path)
    content = coco({"d.jpg": [("kings", 1, 1, 9, 9)], "e.jpg": []}, {"kings": 1})
    write_coco(tmp_path / "annotations/instances_val2017.json", content, None)
    message = error(tmp_path)
    assert "'kings' in 1 object(s)" in message and "did you mean 'king'?" in message


def first(key: str, **values: object) -> Callable[[dict[str, Any]], object]:
    """Change the first row of a list; a value of ``...`` removes it."""

    def edit(content: dict[str, Any]) -> None:
        row = content[key][0]
        row.update(values)
        for name in [n for n, v in values.items() if v is ...]:
            del row[name]

    return edit


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (first("annotations", image_id=8), "annotation 700: image_id 8 is not among the images"),
        (first("annotations", category_id=1), "annotation 700: category_id 1 is not among"),
        (first("annotations", image_id=[7]), "annotation 700: image_id is [7]; expected an id"),
        (first("annotations", id=..., image_id=8), "annotation number 1: image_id 8"),
        (first("annotations", bbox=...), "annotation 700: bbox is None; expected [x, y,"),
        (first("annotations", bbox=[1, 2, 3]), "bbox is [1, 2, 3]; expected [x, y,"),
        (first("annotations", bbox=[1, 2, "3", 4]), "expected [x, y, width, height], four"),
        (first("annotations", bbox=[1, 2, float("nan"), 4]), "bbox is [1, 2, nan, 4]; expected"),
        (first("annotations", bbox=[1, 2, float("inf"), 4]), "bbox is [1, 2, inf, 4]; expected"),
        (first("annotations", bbox=[1, 2, 10**400, 4]), "annotation 700: bbox is [1, 2, 1000"),
        (first("annotations", bbox=[9, 9, -3, 4]), "has a negative width or height"),
        (first("annotations", iscrowd="yes"), "iscrowd is 'yes'; expected 0 or 1"),
        (first("images", id=17), "image 17: the id is there more than once"),
        (first("images", id=None), "image number 1: id is None"),
        (first("images", file_name=3), "image 7: file_name is 3; expected a text"),
        (first("images", file_name="b.jpg"), "leads to"),
        (first("images", file_name="no\n\x1b[2J.jpg"), "image 7, 'no\\n\\x1b[2J.jpg'"),
        (first("categories", id=90), "category number 2: the id 90 is there more than once"),
        (first("categories", name=""), "category number 1: name is ''; expected a text"),
        (first("categories", name="\ud800"), "category number 1: name is"),
        (lambda c: c.pop("categories"), "'categories' is missing or no list of objects"),
        (lambda c: c.update(images={}), "'images' is missing or no list of objects"),
        (lambda c: c.update(annotations=[1]), "'annotations' is missing or no list of objects"),
        (lambda c: c.update(annotations=[]), "training split has 3 image(s) without any object"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_object(
    tmp_path: Path, edit: Callable[[dict[str, Any]], object], said: str
) -> None:
    message = error(write_one(tmp_path, edit))
    assert said in message and str(tmp_path) in message


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "not readable as JSON"),
        (b'{"images": [', "not readable as JSON"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"images": ' + b"9" * 5000 + b"}", "not readable as JSON"),
        (b"[]", "not a COCO file"),
        (b"NaN", "not a COCO file"),
        (b'{"caption": "\xff"}', "not UTF-8"),
    ],
)
def test_a_file_that_is_no_coco_is_one_line(tmp_path: Path, raw: bytes, said: str) -> None:
    (write_one(tmp_path) / "annotations" / "instances_default.json").write_bytes(raw)
    message = error(tmp_path)
    assert said in message and "instances_default.json" in message


def test_a_byte_order_mark_is_no_obstacle(tmp_path: Path) -> None:
    path = write_one(tmp_path) / "annotations" / "instances_default.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(open_dataset(tmp_path).train) == 2


def mutated(content: dict[str, Any], random_: random.Random) -> dict[str, Any]:
    """A value somewhere in the file replaced, removed or doubled."""
    odd = [None, True, -1, 0, 1e999, float("nan"), "", "x", "7", [], {}, [[]], 10**30, 2.5, "\x00"]
    content = copy.deepcopy(content)
    node: Any = content
    while True:
        key = random_.choice(list(node) if isinstance(node, dict) else range(len(node)))
        if not isinstance(node[key], dict | list) or not node[key] or random_.random() < 0.1:
            break
        node = node[key]
    if random_.random() < 0.2:
        del node[key]
    elif isinstance(node, list) and random_.random() < 0.2:
        node.append(node[key])
    else:
        node[key] = random_.choice(odd)
    return content


def test_whatever_is_changed_in_a_file_gives_a_data_set_or_our_own_error(tmp_path: Path) -> None:
    write_one(tmp_path)
    path = tmp_path / "annotations" / "instances_default.json"
    random_, outcomes = random.Random(0), {True: 0, False: 0}
    for _ in range(400):
        write_text(path, json.dumps(mutated(mutated(coco(TRAIN), random_), random_)))
        try:
            splits = open_dataset(tmp_path, validation_fraction=0.3)
        except UserError as caught:
            assert "\n" not in str(caught)
            outcomes[False] += 1
        else:
            assert all(np.isfinite(a.boxes).all() for a in splits.train.annotations)
            outcomes[True] += 1
    assert min(outcomes.values()) > 40
