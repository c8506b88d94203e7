"""Copy-paste: what is pasted is an object with its box and label, where nothing else was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.ops import box_iou

from data import open_dataset
from data.augmentation import training_transform
from data.copy_paste import FEATHER, CutObject, PasteObjects, cut_objects
from data.dataset import Dataset, Target
from tests.data_sets import write_cards

SIDE = 96
RED, BLUE = 1, 2


def plain(label: int, height: int = 24, width: int = 16) -> CutObject:
    """Red for label 1, blue for label 2."""
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image[0 if label == RED else 2] = 250
    return CutObject(image, label)


def black(*boxes: list[float]) -> tuple[Tensor, Target]:
    """A black image whose objects are white; they have label 3 and are difficult."""
    image = torch.zeros(3, SIDE, SIDE, dtype=torch.uint8)
    for x1, y1, x2, y2 in boxes:
        image[:, int(y1) : int(y2), int(x1) : int(x2)] = 255
    rows = torch.tensor(boxes).reshape(-1, 4)
    return tv_tensors.Image(image), Target(
        boxes=tv_tensors.BoundingBoxes(rows, format="XYXY", canvas_size=(SIDE, SIDE)),
        labels=torch.full((len(rows),), 3),
        difficult=torch.ones(len(rows), dtype=torch.bool),
        image_id=5,
    )


@pytest.mark.parametrize("turned", [False, True])
def test_a_pasted_object_lies_in_its_box_and_has_its_label(turned: bool) -> None:
    paste = PasteObjects([plain(RED), plain(BLUE)], 3, 1.4, turned)
    pasted, shapes = 0, set()
    for seed in range(40):
        torch.manual_seed(seed)
        image, target = paste(*black([40, 40, 70, 80]))
        boxes = target["boxes"].as_subclass(Tensor)
        assert target["labels"][0] == 3 and target["difficult"].tolist()[:1] == [True]
        assert not target["difficult"][1:].any() and target["image_id"] == 5
        assert box_iou(boxes, boxes).fill_diagonal_(0).max() == 0
        assert (image[:, 40:80, 40:70] == 255).all(), "the image's own object is covered"
        for box, label in zip(boxes[1:].int().tolist(), target["labels"][1:], strict=True):
            x1, y1, x2, y2 = box
            assert x1 >= 0 and y1 >= 0 and x2 <= SIDE and y2 <= SIDE
            inside = image[:, y1 + FEATHER : y2 - FEATHER, x1 + FEATHER : x2 - FEATHER]
            channel = 0 if label == RED else 2
            assert (inside[channel] > 240).all() and (inside[1] == 0).all()
            shapes.add((x2 - x1) > (y2 - y1))
            pasted += 1
    assert pasted > 20
    assert shapes == ({True, False} if turned else {False})


def test_the_image_given_is_left_as_it_was() -> None:
    image, target = black()
    torch.manual_seed(0)
    paste = PasteObjects([plain(RED)], 4, 1.0, False)
    assert any(paste(image, target)[0].any() for _ in range(5))
    assert not image.any() and len(target["boxes"]) == 0


def test_where_there_is_no_room_nothing_is_pasted() -> None:
    full, large = black([0, 0, SIDE, SIDE]), PasteObjects([plain(RED, 200, 200)], 3, 1.0, False)
    for paste, (image, target) in (
        (PasteObjects([plain(RED)], 3, 1.0, False), full),
        (large, black()),
    ):
        for seed in range(5):
            torch.manual_seed(seed)
            new, same = paste(image, target)
            assert torch.equal(new, image) and same is target


@pytest.fixture
def cards(tmp_path: Path) -> Dataset:
    boxes = {f"t{i}.png": [("ace", 8, 8, 40, 44), ("king", 44, 8, 60, 40)] for i in range(3)}
    return open_dataset(write_cards(tmp_path, boxes, {"v.png": [("ace", 8, 8, 40, 44)]})).train


def test_objects_are_cut_at_the_scale_of_training(cards: Dataset) -> None:
    width, height = cards.annotations[0].size or (0, 0)
    for factor in (1, 2):
        objects = cut_objects(cards, factor * max(width, height))
        assert sorted(o.label for o in objects) == [1, 1, 1, 2, 2, 2]
        shapes = {o.label: tuple(o.image.shape) for o in objects}
        assert shapes == {1: (3, 36 * factor, 32 * factor), 2: (3, 32 * factor, 16 * factor)}


def test_the_training_transform_pastes_only_when_that_is_chosen(cards: Dataset) -> None:
    counts = {}
    for most in (0, 3):
        transform = training_transform(cards, 128, scale_jitter=3.0, copy_paste=most)
        torch.manual_seed(0)
        counts[most] = sum(len(transform(*cards[0])[1]["boxes"]) for _ in range(30))
    assert counts[3] > counts[0]


def test_a_data_set_without_objects_to_cut_is_trained_without(cards: Dataset) -> None:
    transform = training_transform(cards.subset([]), 64, copy_paste=3)
    assert transform.paste is None
