"""From the files to a batch: boxes stay in their pictures, with their own labels and flags.

The pictures are ramps: a pixel's red says how far right it was in the file and its green how far
down. What an augmented box holds therefore tells which box of the file it was.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from data import open_dataset
from data.augmentation import FittingScale, TrainingTransform
from data.dataset import Dataset, DataSplits, SampleKey, Target
from data.loader import make_loader
from tests.data_sets import Thing, write_text, xml_text
from utils.errors import UserError

NAMES = [f"thing-{i}" for i in range(12)]
BLUE = 255  # of the ramps; the filling around a picture has less
few = settings(max_examples=25, deadline=None)


@dataclass(frozen=True)
class Drawn:
    """One picture. boxes: xyxy as they are meant, pixels from 0, a name at most once."""

    size: tuple[int, int]
    boxes: dict[str, tuple[float, float, float, float]]
    difficult: dict[str, bool]
    states_size: bool = True

    @property
    def stated(self) -> tuple[int, int]:
        return self.size if self.states_size else (0, 0)

    def things(self, origin: int = 0) -> list[Thing]:
        return [(n, x + origin, y + origin, r, b) for n, (x, y, r, b) in self.boxes.items()]


# Training always has an object, and validation no class that training has not.
SURE = Drawn(
    (30, 20),
    {name: (i, i % 5, i + 15, 12 + i % 7) for i, name in enumerate(NAMES)},
    dict.fromkeys(NAMES, False),
)


def draw_ramp(path: Path, size: tuple[int, int]) -> None:
    width, height = size
    ramp = np.full((height, width, 3), BLUE, dtype=np.uint8)
    ramp[..., 0] = (255 * (np.arange(width) + 0.5) / width).round()
    ramp[..., 1] = (255 * (np.arange(height) + 0.5) / height).round()[:, None]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ramp).save(path)


def write_xml(path: Path, picture: Drawn, origin: int) -> None:
    flags = [int(picture.difficult[name]) for name in picture.boxes]
    text = xml_text(picture.things(origin), f"{path.stem}.png", picture.stated, flags)
    write_text(path, text)


def write_cards(folder: Path, splits: dict[str, list[Drawn]]) -> None:
    for split, csv in (("train", "train"), ("val", "test")):
        rows = ["filename,width,height,class,xmin,ymin,xmax,ymax"]
        for i, picture in enumerate(splits[split]):
            draw_ramp(folder / csv / f"{i}.png", picture.size)
            start = f"{i}.png,{picture.stated[0]},{picture.stated[1]}"
            things = [",".join(map(str, thing)) for thing in picture.things()]
            rows += [f"{start},{thing}" for thing in things] or [f"{start},,,,,"]
        write_text(folder / f"{csv}_labels.csv", "\n".join(rows))


def write_labelimg(folder: Path, splits: dict[str, list[Drawn]]) -> None:
    for split, pictures in splits.items():
        for i, picture in enumerate(pictures):
            draw_ramp(folder / split / f"{i}.png", picture.size)
            write_xml(folder / split / f"{i}.xml", picture, origin=0)


def write_voc(folder: Path, splits: dict[str, list[Drawn]]) -> None:
    for split, pictures in splits.items():
        for i, picture in enumerate(pictures):
            draw_ramp(folder / "JPEGImages" / f"{split}{i}.png", picture.size)
            write_xml(folder / "Annotations" / f"{split}{i}.xml", picture, origin=1)
        ids = "\n".join(f"{split}{i}" for i in range(len(pictures)))
        write_text(folder / "ImageSets" / "Main" / f"{split}.txt", ids)


def write_coco(folder: Path, splits: dict[str, list[Drawn]]) -> None:
    for split, pictures in splits.items():
        for i, picture in enumerate(pictures):
            draw_ramp(folder / split / f"{i}.png", picture.size)
        images = [
            {"id": 5 * i, "file_name": f"{i}.png", "width": p.stated[0], "height": p.stated[1]}
            for i, p in enumerate(pictures)
        ]
        boxes = [
            {"image_id": 5 * i, "category_id": 99 - NAMES.index(n), "bbox": [x, y, r - x, b - y]}
            for i, picture in enumerate(pictures)
            for n, x, y, r, b in picture.things()
        ]
        categories = [{"id": 99 - i, "name": name} for i, name in enumerate(NAMES)]
        content = {"images": images, "annotations": boxes, "categories": categories}
        write_text(folder / "annotations" / f"{split}.json", json.dumps(content))


WRITERS: dict[str, Callable[[Path, dict[str, list[Drawn]]], None]] = {
    "playing cards": write_cards,
    "Charlotte": write_labelimg,
    "VOC": write_voc,
    "COCO": write_coco,
}
KEEP_FLAGS = ("Charlotte", "VOC")
each_layout = pytest.mark.parametrize("layout", WRITERS)

seeds = st.integers(0, 2**30)
sides = st.one_of(st.integers(1, 8), st.integers(1, 150))


@st.composite
def intervals(draw: st.DrawFn, length: int) -> tuple[float, float]:
    """Inside 0..length or over one end of it by a sixth of its own length; a pixel or far less."""
    least = draw(st.sampled_from([1.0, 1.0, 0.01]))
    start = draw(st.one_of(st.just(0.0), st.floats(0, length - least)))
    stop = draw(st.one_of(st.just(float(length)), st.floats(start + least, length)))
    over = (stop - start) * draw(st.floats(0, 1 / 6))
    match draw(st.sampled_from(["inside", "inside", "left", "right"])):
        case "left":
            start, stop = -over, stop - start
        case "right":
            start, stop = length - (stop - start), length + over
    return round(start, 3), round(stop, 3)


@st.composite
def pictures(draw: st.DrawFn) -> Drawn:
    """Any size; none to six objects, each with at least 0.7 of its area inside."""
    width, height = size = draw(sides), draw(sides)
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=6))
    boxes, difficult = {}, {}
    for name in names:
        (left, right), (top, bottom) = draw(intervals(width)), draw(intervals(height))
        boxes[name] = left, top, right, bottom
        difficult[name] = draw(st.booleans())
    return Drawn(size, boxes, difficult, draw(st.booleans()))


@st.composite
def transforms(draw: st.DrawFn) -> TrainingTransform:
    canvas = draw(st.sampled_from([(64, 64), (64, 96), (96, 32)]))
    turned = draw(st.booleans()) and canvas[0] == canvas[1]
    return TrainingTransform(canvas, scale_jitter=draw(st.floats(1, 4)), quarter_turns=turned)


def opened(layout: str, folder: Path, train: list[Drawn]) -> DataSplits:
    WRITERS[layout](folder, {"train": [*train, SURE], "val": [SURE]})
    splits = open_dataset(folder)
    assert splits.layout == layout
    return splits


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
    found = [dataset.class_names[label - 1] for label in target["labels"].tolist()]
    assert min(target["labels"].tolist(), default=1) >= 1
    assert len(set(found)) == len(found) == len(target["boxes"]) == len(target["difficult"])
    boxes, flags = target["boxes"].tolist(), target["difficult"].tolist()
    return dict(zip(found, zip(boxes, flags, strict=True), strict=True))


def assert_inside(image: Tensor, target: Target) -> None:
    height, width = image.shape[-2:]
    boxes = target["boxes"].as_subclass(Tensor)
    assert (boxes >= 0).all() and (boxes <= torch.tensor([width, height] * 2)).all()
    assert (boxes[:, :2] < boxes[:, 2:]).all()


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
            found = rows(train, target)
            assert set(found) == set(picture.boxes)
            for name, (box, flag) in found.items():
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
    cut = left <= 0 or top <= 0 or right >= width or bottom >= height
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
@given(
    drawn=st.lists(pictures(), min_size=1, max_size=3),
    transform=transforms(),
    seed=seeds,
)
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
        assert_inside(image, target)
        assert target["image_id"] == key.row
        # Light and colour come last and move no box.
        found = rows(train, target)
        assert found == rows(train, same)
        torch.manual_seed(key.seed)
        resized = scaling.make_params([torch.zeros(3, *picture.size[::-1])])["size"]
        for name, (box, flag) in found.items():
            assert name in picture.boxes
            assert flag == (picture.difficult[name] and layout in KEEP_FLAGS)
            assert_same_object(box, ramp, picture, name, resized)


coordinates = st.one_of(
    st.floats(-60, 200), st.integers(-3, 40), st.sampled_from([float("nan"), 1e9, 1e-30, -0.0])
)


@st.composite
def wild_pictures(draw: st.DrawFn) -> Drawn:
    """Boxes anywhere: outside, mostly outside, without area, turned inside out, no numbers."""
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
            found = rows(train, target)
            assert set(found) <= set(picture.boxes)
            for name, (_, flag) in found.items():
                assert flag == (picture.difficult[name] and layout in KEEP_FLAGS)
