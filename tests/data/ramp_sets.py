"""Data sets of any boxes in every layout; the pictures are ramps.

A pixel's red says how far right it was in the file and its green how far down. What an augmented
box holds therefore tells which box of the file it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from data import open_dataset
from data.augmentation import TrainingTransform
from data.dataset import DataSplits
from tests.data_sets import (
    Pictures,
    Sizes,
    Thing,
    coco_content,
    csv_text,
    write_json,
    write_text,
    xml_text,
)

NAMES = [f"thing-{i}" for i in range(12)]
BLUE = 255  # of the ramps; the filling around a picture has less


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


def draw_ramps(folder: Path, pictures: list[Drawn]) -> None:
    for i, picture in enumerate(pictures):
        draw_ramp(folder / f"{i}.png", picture.size)


def things_and_sizes(pictures: list[Drawn]) -> tuple[Pictures, Sizes]:
    things = {f"{i}.png": picture.things() for i, picture in enumerate(pictures)}
    return things, {f"{i}": picture.stated for i, picture in enumerate(pictures)}


def write_xml(path: Path, picture: Drawn, origin: int) -> None:
    flags = [int(picture.difficult[name]) for name in picture.boxes]
    text = xml_text(picture.things(origin), f"{path.stem}.png", picture.stated, flags)
    write_text(path, text)


def write_cards(folder: Path, splits: dict[str, list[Drawn]]) -> None:
    for split, csv in (("train", "train"), ("val", "test")):
        draw_ramps(folder / csv, splits[split])
        write_text(folder / f"{csv}_labels.csv", csv_text(*things_and_sizes(splits[split])))


def write_labelimg(folder: Path, splits: dict[str, list[Drawn]]) -> None:
    for split, pictures in splits.items():
        draw_ramps(folder / split, pictures)
        for i, picture in enumerate(pictures):
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
        draw_ramps(folder / split, pictures)
        things, sizes = things_and_sizes(pictures)
        ids = {name: 99 - i for i, name in enumerate(NAMES)}
        write_json(folder / "annotations" / f"{split}.json", coco_content(things, ids, sizes))


WRITERS: dict[str, Callable[[Path, dict[str, list[Drawn]]], None]] = {
    "playing cards": write_cards,
    "Charlotte": write_labelimg,
    "VOC": write_voc,
    "COCO": write_coco,
}
KEEP_FLAGS = ("Charlotte", "VOC")

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
    square = draw(st.booleans()) and canvas[0] == canvas[1]
    return TrainingTransform(canvas, scale_jitter=draw(st.floats(1, 4)), quarter_turns=square)


def opened(layout: str, folder: Path, train: list[Drawn]) -> DataSplits:
    WRITERS[layout](folder, {"train": [*train, SURE], "val": [SURE]})
    splits = open_dataset(folder)
    assert splits.layout == layout
    return splits
