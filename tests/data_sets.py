"""Tiny data sets of each layout, drawn into a folder that the test gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

SIZE = (64, 48)
COLOURS = {"ace": "red", "king": "blue", "queen": "green", "cat": "orange", "dog": "brown"}

# A class name and xmin, ymin, xmax, ymax.
Thing = tuple[str, float, float, float, float]
Pictures = Mapping[str, Sequence[Thing]]

ACE: Thing = ("ace", 4, 6, 20, 30)
KING: Thing = ("king", 30, 10, 60, 44)


def draw_image(path: Path, things: Sequence[Thing] = (), size: tuple[int, int] = SIZE) -> Path:
    """A grey picture with a coloured rectangle for each thing."""
    image = Image.new("RGB", size, "grey")
    draw = ImageDraw.Draw(image)
    for name, *box in things:
        draw.rectangle(tuple(box), fill=COLOURS.get(name, "white"))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def xml_text(
    things: Sequence[Thing],
    filename: str = "a.jpg",
    size: tuple[int, int] = SIZE,
    difficult: Sequence[int] = (),
) -> str:
    flags = [*difficult, *([0] * len(things))]
    objects = "".join(
        f"<object><name>{name}</name><difficult>{flag}</difficult><bndbox>"
        f"<xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax>"
        "</bndbox></object>"
        for (name, xmin, ymin, xmax, ymax), flag in zip(things, flags, strict=False)
    )
    return (
        f"<annotation><filename>{filename}</filename>"
        f"<path>C:\\somewhere\\else\\{filename}</path>"
        f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
        f"{objects}</annotation>"
    )


def write_text(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def write_charlotte(folder: Path, pictures: Pictures, classes: Sequence[str] | None = None) -> Path:
    """Images and LabelImg XML side by side; ``classes.txt`` if classes are given."""
    for name, things in pictures.items():
        image = draw_image(folder / name, things)
        write_text(image.with_suffix(".xml"), xml_text(things, name))
    if classes is not None:
        write_text(folder / "classes.txt", "\n".join(classes) + "\n")
    return folder


def csv_text(pictures: Pictures) -> str:
    rows = ["filename,width,height,class,xmin,ymin,xmax,ymax"]
    for name, things in pictures.items():
        start = f"{name},{SIZE[0]},{SIZE[1]}"
        rows += [",".join([start, *map(str, thing)]) for thing in things] or [f"{start},,,,,"]
    return "\n".join(rows) + "\n"


def write_cards(folder: Path, train: Pictures, test: Pictures | None = None) -> Path:
    """``train_labels.csv``, ``test_labels.csv`` if given, and ``train/`` and ``test/``."""
    for split, pictures in (("train", train), ("test", test)):
        if pictures is not None:
            write_text(folder / f"{split}_labels.csv", csv_text(pictures))
            for name, things in pictures.items():
                draw_image(folder / split / name, things)
    return folder


def write_voc(
    year: Path, pictures: Pictures, lists: Mapping[str, Sequence[str]] | None = None
) -> Path:
    """One VOC-shaped folder; keys are image ids; ``lists`` are the files of ImageSets/Main."""
    for image_id, things in pictures.items():
        draw_image(year / "JPEGImages" / f"{image_id}.jpg", things)
        write_text(year / "Annotations" / f"{image_id}.xml", xml_text(things, f"{image_id}.jpg"))
    for name, ids in (lists or {}).items():
        write_text(year / "ImageSets" / "Main" / f"{name}.txt", "\n".join(ids) + "\n")
    return year
