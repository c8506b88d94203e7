"""Samples and targets: their types, and what belongs together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from data.dataset import Annotation, Dataset
from tests.data_sets import ACE, KING, annotation, draw_image, seven_cards
from utils.errors import UserError


@pytest.fixture
def cards(tmp_path: Path) -> Dataset:
    return seven_cards(tmp_path)


def test_a_sample_has_the_promised_types(cards: Dataset) -> None:
    sample = cards.sample(1)
    assert sample.image.mode == "RGB" and sample.image.size == (66, 49)
    assert sample.boxes.dtype == torch.float32 and sample.boxes.tolist() == [
        list(ACE[1:]),
        list(KING[1:]),
    ]
    assert sample.labels.dtype == torch.int64 and sample.labels.tolist() == [2, 1]
    assert sample.difficult.dtype == torch.bool and sample.difficult.tolist() == [False, True]


def test_an_item_is_a_uint8_image_and_a_target_that_belongs_to_it(cards: Dataset) -> None:
    image, target = cards[1]
    assert image.dtype == torch.uint8 and tuple(image.shape) == (3, 49, 66)
    assert set(target) == {"boxes", "labels", "difficult", "image_id"}
    assert isinstance(target["boxes"], tv_tensors.BoundingBoxes)
    assert target["boxes"].canvas_size == (49, 66) and target["boxes"].dtype == torch.float32
    assert target["labels"].tolist() == [2, 1] and target["difficult"].tolist() == [False, True]
    assert [cards[i][1]["image_id"] for i in range(7)] == list(range(7))


def test_an_image_without_objects_is_an_ordinary_sample(cards: Dataset) -> None:
    for values in (vars(cards.sample(2)), cards[2][1]):
        assert tuple(values["boxes"].shape) == (0, 4) and values["boxes"].dtype == torch.float32
        assert values["labels"].shape == values["difficult"].shape == (0,)
        assert values["labels"].dtype == torch.int64 and values["difficult"].dtype == torch.bool


def test_boxes_of_any_number_type_become_float32(tmp_path: Path) -> None:
    path = draw_image(tmp_path / "a.png")
    for boxes in (np.zeros((0,)), np.zeros((0, 4), np.int64), np.array([[1, 2, 3, 4]], np.float64)):
        count = len(boxes)
        record = Annotation(path, boxes, ("x",) * count, np.zeros(count))
        sample = Dataset([record], ["x"]).sample(0)
        assert sample.boxes.dtype == torch.float32 and tuple(sample.boxes.shape) == (count, 4)


def test_labels_and_counts_need_no_image(tmp_path: Path) -> None:
    data = Dataset([annotation(tmp_path / "gone.png", [ACE, KING, ACE])], ["king", "ace", "queen"])
    assert data.labels(0) == [2, 1, 2] and data.path(0) == tmp_path / "gone.png"
    assert data.label_counts() == {"king": 1, "ace": 2, "queen": 0}
    assert list(data.label_counts()) == ["king", "ace", "queen"]


def test_an_unknown_class_is_refused_with_the_nearest_name_and_the_place(tmp_path: Path) -> None:
    records = [annotation(tmp_path / f"{i}.png", [("quen", 1, 1, 5, 5)]) for i in range(2)]
    with pytest.raises(UserError) as caught:
        Dataset(records, ["ace", "queen"])
    message = str(caught.value)
    assert "'quen' in 2 object(s)" in message and "did you mean 'queen'?" in message
    assert "ace, queen" in message and ".xml" in message and "\n" not in message


def test_a_renamed_set_keeps_its_objects_names(cards: Dataset) -> None:
    renamed = cards.renamed_to(["queen", "ace", "king"])
    assert renamed.labels(1) == [2, 3] and cards.labels(1) == [2, 1]
    with pytest.raises(UserError, match="'king'"):
        cards.renamed_to(["ace"])


def test_a_subset_and_another_transform_leave_the_first_set_alone(cards: Dataset) -> None:
    few = cards.subset([3, 1]).with_transform(lambda image, target: (image[:, :5, :5], target))
    assert len(few) == 2 and tuple(few[0][0].shape) == (3, 5, 5)
    assert few.path(0) == cards.path(3) and few.class_names == cards.class_names
    cut = cards.with_transform(lambda image, target: (image[:, :3, :3], target))
    assert tuple(cut[0][0].shape) == (3, 3, 3)
    assert len(cards) == 7 and cards.transform is None and cards[0][0].shape[1] == 48


def test_an_image_that_changed_its_size_since_the_data_set_was_read_is_named(
    tmp_path: Path,
) -> None:
    path = draw_image(tmp_path / "a.png", [ACE], (40, 30))
    data = Dataset(
        [annotation(path, [ACE], (40, 30)), annotation(path, [ACE], (400, 300))], ["ace"]
    )
    assert data.sample(0).boxes.tolist() == [list(ACE[1:])]
    with pytest.raises(UserError, match=r"a.png is 40x30 pixels.*a.xml.*400x300"):
        data.sample(1)
    assert data.readable_sample(1) is None and data.unreadable.tolist() == [False, True]
