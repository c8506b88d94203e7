"""Tiny data sets of each layout, drawn into a folder that the test gives."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from data import open_dataset
from data.dataset import Annotation, Batch, Dataset
from utils.errors import UserError

SIZE = (64, 48)
COLOURS = {"ace": "red", "king": "blue", "queen": "green", "cat": "orange", "dog": "brown"}

# A class name and xmin, ymin, xmax, ymax.
Thing = tuple[str, float, float, float, float]
Pictures = Mapping[str, Sequence[Thing]]
# Of pictures by their names without extension; the others have SIZE.
Sizes = Mapping[str, tuple[int, int]]
NONE: Sizes = {}
# What changes the content of a JSON.
Edit = Callable[[dict[str, Any]], object]

ACE: Thing = ("ace", 4, 6, 20, 30)
KING: Thing = ("king", 30, 10, 60, 44)
CSV_HEADER = "filename,width,height,class,xmin,ymin,xmax,ymax"
DECIMAL: Thing = ("ace", 3.25, 5.1, 20.7, 31.3)
COCO_TRAIN: Pictures = {"a.jpg": [ACE, KING], "b.jpg": [DECIMAL], "c.jpg": []}
COCO_IDS = {"king": 3, "ace": 90}


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


def size_of(name: str, sizes: Sizes) -> tuple[int, int]:
    return sizes.get(Path(name).stem, SIZE)


def write_charlotte(
    folder: Path, pictures: Pictures, classes: Sequence[str] | None = None, sizes: Sizes = NONE
) -> Path:
    """Images and LabelImg XML side by side; ``classes.txt`` if classes are given."""
    for name, things in pictures.items():
        size = size_of(name, sizes)
        image = draw_image(folder / name, things, size)
        write_text(image.with_suffix(".xml"), xml_text(things, name, size))
    if classes is not None:
        write_text(folder / "classes.txt", "\n".join(classes) + "\n")
    return folder


def csv_text(pictures: Pictures, sizes: Sizes = NONE) -> str:
    rows = [CSV_HEADER]
    for name, things in pictures.items():
        width, height = size_of(name, sizes)
        start = f"{name},{width},{height}"
        rows += [",".join([start, *map(str, thing)]) for thing in things] or [f"{start},,,,,"]
    return "\n".join(rows) + "\n"


def write_cards(
    folder: Path, train: Pictures, test: Pictures | None = None, sizes: Sizes = NONE
) -> Path:
    """``train_labels.csv``, ``test_labels.csv`` if given, and ``train/`` and ``test/``."""
    for split, pictures in (("train", train), ("test", test)):
        if pictures is not None:
            write_text(folder / f"{split}_labels.csv", csv_text(pictures, sizes))
            for name, things in pictures.items():
                draw_image(folder / split / name, things, size_of(name, sizes))
    return folder


def write_rows(folder: Path, *rows: str, header: str = CSV_HEADER) -> Path:
    """Playing cards with these rows in the training CSV; a.jpg and b.jpg train, c.jpg tests."""
    if not (folder / "test_labels.csv").exists():
        write_cards(folder, {"a.jpg": [ACE, KING], "b.jpg": [KING]}, {"c.jpg": [ACE]})
    write_text(folder / "train_labels.csv", "\n".join([header, *rows]) + "\n")
    return folder


def write_voc(
    year: Path,
    pictures: Pictures,
    lists: Mapping[str, Sequence[str]] | None = None,
    sizes: Sizes = NONE,
) -> Path:
    """One VOC-shaped folder; keys are image ids; ``lists`` are the files of ImageSets/Main."""
    for image_id, things in pictures.items():
        size = size_of(image_id, sizes)
        draw_image(year / "JPEGImages" / f"{image_id}.jpg", things, size)
        text = xml_text(things, f"{image_id}.jpg", size)
        write_text(year / "Annotations" / f"{image_id}.xml", text)
    for name, ids in (lists or {}).items():
        write_text(year / "ImageSets" / "Main" / f"{name}.txt", "\n".join(ids) + "\n")
    return year


def coco_content(pictures: Pictures, ids: Mapping[str, int], sizes: Sizes = NONE) -> dict[str, Any]:
    """What a COCO file holds; image ids neither start at 1 nor follow one another.

    ids: of the categories by name.
    """
    images = [
        {"id": 7 + 10 * i, "file_name": name, "width": width, "height": height}
        for i, name in enumerate(pictures)
        for width, height in [size_of(name, sizes)]
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
    json_path: Path, images: Path, pictures: Pictures, ids: Mapping[str, int] = COCO_IDS
) -> None:
    """One JSON, and its pictures into ``images``."""
    write_json(json_path, coco_content(pictures, ids))
    for name, things in pictures.items():
        draw_image(images / name, things)


def write_sole_coco(folder: Path, edit: Edit = lambda content: None) -> Path:
    """A single JSON without a split, edited, and its images."""
    json_path = folder / "annotations" / "instances_default.json"
    write_coco(json_path, folder / "images", COCO_TRAIN)
    content = coco_content(COCO_TRAIN, COCO_IDS)
    edit(content)
    write_json(json_path, content)
    return folder


def write_json(path: Path, content: object, **options: Any) -> Path:
    return write_text(path, json.dumps(content, **options))


def save_oriented(path: Path, image: Image.Image, orientation: int, **options: Any) -> Path:
    """Save an image with an orientation in its EXIF data."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif, **options)
    return path


def png_chunk(kind: bytes, content: bytes) -> bytes:
    whole = kind + content
    return len(content).to_bytes(4, "big") + whole + zlib.crc32(whole).to_bytes(4, "big")


def photo(number: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """A smooth scene that no other number gives."""
    pixels = np.random.default_rng(number).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def annotation(
    path: Path, things: Sequence[Thing] = (), size: tuple[int, int] | None = None
) -> Annotation:
    """A record; every second object is difficult."""
    names = tuple(name for name, *_ in things)
    return Annotation(
        image_path=path,
        boxes=np.array([box for _, *box in things], dtype=np.float32).reshape(-1, 4),
        names=names,
        difficult=np.arange(len(names)) % 2 == 1,
        size=size,
        source=f"{path.stem}.xml",
    )


def seven_cards(folder: Path) -> Dataset:
    """Seven pictures of different sizes; the third and the sixth are empty."""
    records = []
    for i in range(7):
        things = [] if i % 3 == 2 else [ACE, KING][: 1 + i % 2]
        path = draw_image(folder / f"{i}.png", things, (64 + 2 * i, 48 + i))
        records.append(annotation(path, things))
    return Dataset(records, ["king", "ace"])


def refusal(path: str | Path, **options: Any) -> str:
    """The one line with which a data set is refused."""
    with pytest.raises(UserError) as caught:
        open_dataset(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def comparable(batches: Iterable[Batch]) -> list[tuple[list[Any], list[Any]]]:
    """The batches as values that ``==`` compares."""
    return [
        (
            [(tuple(image.shape), image.numpy().tobytes()) for image in images],
            [
                (t["boxes"].tolist(), t["labels"].tolist(), t["difficult"].tolist(), t["image_id"])
                for t in targets
            ],
        )
        for images, targets in batches
    ]


def snapshot(folder: Path) -> dict[str, tuple[bytes | None, int, int]]:
    """Bytes, time and rights of everything in the folder."""
    return {
        str(p): (p.read_bytes() if p.is_file() else None, p.lstat().st_mtime_ns, p.lstat().st_mode)
        for p in [folder, *sorted(folder.rglob("*"))]
    }


def image_names(*datasets: Any) -> list[str]:
    """The file names of the images, in their order."""
    return [a.image_path.name for dataset in datasets for a in dataset.annotations]
