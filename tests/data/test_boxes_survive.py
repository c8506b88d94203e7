"""From the files to a batch: boxes stay in their images, with their own labels and flags."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from data.augmentation import MIN_SIDE, FittingScale, TrainingTransform
from data.dataset import Dataset, SampleKey, Target
from data.loader import make_loader
from tests.data.ramp_sets import (
    BLUE,
    KEEP_FLAGS,
    NAMES,
    SURE,
    WRITERS,
    Drawn,
    opened,
    pictures,
    seeds,
    sides,
    transforms,
)
from utils.errors import UserError

few = settings(max_examples=25, deadline=None)
each_layout = pytest.mark.parametrize("layout", WRITERS)


def batches(
    dataset: Dataset, transform: TrainingTransform | None, seed: int
) -> Iterator[tuple[SampleKey, Tensor, Target]]:
    """Every picture with the key that fetched it, shuffled and seeded as in training."""
    loader = make_loader(dataset.with_transform(transform), batch_size=2, shuffle=True, seed=seed)
    keys = iter(list(loader.sampler))
    for images, targets in loader:
        for image, target in zip(images, targets, strict=True):
            yield next(keys), image, target


def rows(dataset: Dataset, target: Target) -> dict[str, tuple[list[float], bool]]:
    """Box and flag by class name; no class comes twice, for none does in the file."""
    names = [dataset.class_names[label - 1] for label in target["labels"].tolist()]
    assert min(target["labels"].tolist(), default=1) >= 1
    assert len(set(names)) == len(names) == len(target["boxes"]) == len(target["difficult"])
    boxes, flags = target["boxes"].tolist(), target["difficult"].tolist()
    return dict(zip(names, zip(boxes, flags, strict=True), strict=True))


def assert_inside(image: Tensor, target: Target, least: float = 0) -> None:
    """least: pixels that each side of a box has."""
    height, width = image.shape[-2:]
    assert type(image) is Tensor and image.dtype == torch.uint8
    assert isinstance(target["boxes"], tv_tensors.BoundingBoxes)
    assert target["boxes"].canvas_size == (height, width)
    boxes = target["boxes"].as_subclass(Tensor)
    assert boxes.dtype == torch.float32
    assert (boxes >= 0).all() and (boxes <= torch.tensor([width, height] * 2)).all()
    assert (boxes[:, :2] < boxes[:, 2:]).all() and (boxes[:, 2:] - boxes[:, :2] >= least).all()


def number_of(dataset: Dataset, key: SampleKey) -> int:
    return int("".join(c for c in dataset.path(key.row).stem if c.isdigit()))


def whole_pixels(picture: Drawn, layout: str) -> Drawn:
    """VOC's boxes hold their corner pixels, so that none is smaller than one."""
    if layout != "VOC":
        return picture
    boxes = {
        name: (x, y, max(r, round(x + 1, 3)), max(b, round(y + 1, 3)))
        for name, (x, y, r, b) in picture.boxes.items()
        if x + 1 <= picture.size[0] and y + 1 <= picture.size[1]
    }
    return Drawn(picture.size, boxes, picture.difficult, picture.states_size)


def clipped(picture: Drawn, name: str) -> np.ndarray:
    return np.clip(picture.boxes[name], 0, [*picture.size, *picture.size])


@each_layout
@few
@given(drawn=st.lists(pictures(), min_size=1, max_size=2), seed=seeds)
def test_a_reader_hands_on_every_object_once_and_as_it_was_written(
    layout: str, drawn: list[Drawn], seed: int
) -> None:
    drawn = [whole_pixels(picture, layout) for picture in drawn]
    with tempfile.TemporaryDirectory() as folder:
        train = opened(layout, Path(folder), drawn).train
        for key, image, target in batches(train, None, seed):
            picture = [*drawn, SURE][number_of(train, key)]
            assert_inside(image, target)
            objects = rows(train, target)
            assert set(objects) == set(picture.boxes)
            for name, (box, flag) in objects.items():
                np.testing.assert_allclose(box, clipped(picture, name), atol=1e-4)
                assert flag == (picture.difficult[name] and layout in KEEP_FLAGS)


def assert_same_object(
    box: list[float], image: Tensor, picture: Drawn, name: str, resized: list[int]
) -> None:
    """The pixels in the box's corners come from the corners of the object's box in the file."""
    height, width = image.shape[-2:]
    left, top, right, bottom = box
    # Scaling in float32 leaves a box on a pixel's edge a hair beside it.
    columns = [int(left + 1e-3), int(np.ceil(right - 1e-3)) - 1]
    lines = [int(top + 1e-3), int(np.ceil(bottom - 1e-3)) - 1]
    corners = image[:, lines][:, :, columns].float()
    assert (corners[2] > BLUE - 5).all(), "a box lies in the filling"
    # A rotated edge may lie a hair inside of the canvas.
    cut = min(left, top) <= 1e-3 or right >= width - 1e-3 or bottom >= height - 1e-3
    original = clipped(picture, name)
    for axis, new in ((0, resized[1]), (1, resized[0])):
        length = picture.size[axis]
        start = float(corners[axis].min()) / 255 * length
        stop = float(corners[axis].max()) / 255 * length
        # A corner's pixel is centred up to a pixel away; scaling blurs, and the ramp rounds.
        slack = 1.5 * length / new + 1.5
        assert start >= original[axis] - slack and stop <= original[axis + 2] + slack
        if not cut:
            assert start <= original[axis] + slack and stop >= original[axis + 2] - slack


@each_layout
@few
@given(drawn=st.lists(pictures(), min_size=1, max_size=3), transform=transforms(), seed=seeds)
def test_augmentation_keeps_boxes_inside_and_each_with_its_own_label_and_flag(
    layout: str, drawn: list[Drawn], transform: TrainingTransform, seed: int
) -> None:
    drawn = [whole_pixels(picture, layout) for picture in drawn]
    unlit = TrainingTransform(transform.geometry.transforms[1].canvas)
    unlit.geometry, unlit.light = transform.geometry, v2.Identity()
    scaling = transform.geometry.transforms[0]
    assert isinstance(scaling, FittingScale)
    with tempfile.TemporaryDirectory() as folder:
        train = opened(layout, Path(folder), drawn).train
        lit = list(batches(train, transform, seed))
        plain = list(batches(train, unlit, seed))
    assert [key.row for key, _, _ in lit] == [key.row for key, _, _ in plain]
    assert sorted(key.row for key, _, _ in lit) == list(range(len(drawn) + 1))
    for (key, image, target), (_, ramp, same) in zip(lit, plain, strict=True):
        picture = [*drawn, SURE][number_of(train, key)]
        assert_inside(image, target, MIN_SIDE)
        assert tuple(image.shape) == (3, *scaling.canvas)
        assert target["image_id"] == key.row
        # Light and colour come last and move no box.
        objects = rows(train, target)
        assert objects == rows(train, same)
        torch.manual_seed(key.seed)
        resized = scaling.make_params([torch.zeros(3, *picture.size[::-1])])["size"]
        for name, (box, flag) in objects.items():
            assert name in picture.boxes
            assert flag == (picture.difficult[name] and layout in KEEP_FLAGS)
            assert_same_object(box, ramp, picture, name, resized)


coordinates = st.one_of(
    st.floats(-60, 200), st.integers(-3, 40), st.sampled_from([float("nan"), 1e9, 1e-30, -0.0])
)


@st.composite
def wild_pictures(draw: st.DrawFn) -> Drawn:
    """Boxes anywhere: outside, mostly outside, without area, with exchanged corners, no numbers."""
    size = draw(sides), draw(sides)
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4))
    boxes = {}
    for name in names:
        x, r, y, b = (draw(coordinates) for _ in range(4))
        if draw(st.integers(0, 9)):
            (x, r), (y, b) = sorted((x, r)), sorted((y, b))
        boxes[name] = (x, y, r, b)
    return Drawn(size, boxes, dict.fromkeys(names, True), draw(st.booleans()))


@each_layout
@few
@given(drawn=wild_pictures(), transform=transforms(), seed=seeds)
def test_wild_boxes_are_refused_or_dropped_and_never_leave_their_image(
    layout: str, drawn: Drawn, transform: TrainingTransform, seed: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            train = opened(layout, Path(folder), [drawn]).train
            seen = [*batches(train, None, seed), *batches(train, transform, seed)]
        except UserError as error:
            assert str(error) and len(str(error).splitlines()) == 1
            return
        for key, image, target in seen:
            picture = [drawn, SURE][number_of(train, key)]
            assert_inside(image, target)
            objects = rows(train, target)
            assert set(objects) <= set(picture.boxes)
            for name, (_, flag) in objects.items():
                assert flag == (picture.difficult[name] and layout in KEEP_FLAGS)
