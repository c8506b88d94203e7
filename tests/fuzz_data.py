"""The tiny valid data sets that the fuzzer damages, one of each layout."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.data_sets import Pictures, Thing, draw_image, write_text, xml_text
from tests.fuzz_mutations import mutate

SIZES = {"a": (32, 24), "b": (16, 32), "c": (8, 8), "d": (24, 12), "e": (20, 20), "f": (9, 31)}
ACE: Thing = ("ace", 2, 1, 7, 8)
KING: Thing = ("king", 1.5, 2.25, 6.75, 9)  # over the edge of the smallest
QUEEN: Thing = ("queen", 1, 1, 8, 8)
TRAIN: Pictures = {"a": [ACE, KING], "b": [KING, QUEEN], "c": [ACE, KING, QUEEN], "d": []}
VALIDATION: Pictures = {"e": [KING, ACE], "f": [QUEEN]}
BOTH: Pictures = {**TRAIN, **VALIDATION}


@dataclass(frozen=True)
class Victim:
    """A valid data set and the files of it that are mutated, each with its bytes."""

    layout: str
    folder: Path
    originals: dict[Path, bytes]

    def mutants(self, seed: int, number: int) -> dict[Path, bytes]:
        """One or two files and what to write into them; from seed and number alone."""
        rng = random.Random(f"{seed}/{number}")
        files = rng.sample(list(self.originals), rng.choice((1, 1, 1, 2)))
        pool = list(self.originals.values())
        return {file: mutate(self.originals[file], rng, pool) for file in files}


def write_victims(folder: Path) -> list[Victim]:
    """One data set of each layout, and where annotations are of several kinds, all of them."""
    victims = []
    for layout, write in WRITERS.items():
        inside = folder / layout.replace(" ", "-")
        write(inside)
        texts = (p for p in sorted(inside.rglob("*")) if p.is_file() and p.suffix != ".png")
        victims.append(Victim(layout, inside, {p: p.read_bytes() for p in texts}))
    return victims


def _images(folder: Path, pictures: Pictures) -> None:
    for name, things in pictures.items():
        draw_image(folder / f"{name}.png", things, SIZES[name])


def _xml(folder: Path, pictures: Pictures) -> None:
    for name, things in pictures.items():
        # A line a tag, so that a mutation of lines is one of tags.
        text = xml_text(things, f"{name}.png", SIZES[name], difficult=[1]).replace("><", ">\n<")
        write_text(folder / f"{name}.xml", text)


def _write_cards(folder: Path) -> None:
    for split, pictures in (("train", TRAIN), ("test", VALIDATION)):
        _images(folder / split, pictures)
        rows = ["filename,width,height,class,xmin,ymin,xmax,ymax"]
        for name, things in pictures.items():
            start = f"{name}.png,{SIZES[name][0]},{SIZES[name][1]}"
            rows += [f"{start},{','.join(map(str, t))}" for t in things] or [f"{start},,,,,"]
        write_text(folder / f"{split}_labels.csv", "\n".join(rows) + "\n")


def _write_flat(folder: Path) -> None:
    _images(folder, BOTH)
    _xml(folder, BOTH)
    write_text(folder / "classes.txt", "queen\nking\nace\n")


def _write_split(folder: Path) -> None:
    for split, pictures in (("train", TRAIN), ("val", VALIDATION)):
        _images(folder / split, pictures)
        _xml(folder / split, pictures)
    write_text(folder / "classes.txt", "queen\nking\nace\n")


def _write_voc(folder: Path) -> None:
    _images(folder / "JPEGImages", BOTH)
    _xml(folder / "Annotations", BOTH)
    for split, pictures in (("train", TRAIN), ("val", VALIDATION)):
        write_text(folder / "ImageSets" / "Main" / f"{split}.txt", "\n".join(pictures) + "\n")


def _write_coco(folder: Path) -> None:
    ids = {"king": 3, "ace": 7, "queen": 90}
    for split, pictures in (("train", TRAIN), ("val", VALIDATION)):
        _images(folder / split, pictures)
        images = [
            {"id": i, "file_name": f"{name}.png", "width": SIZES[name][0], "height": SIZES[name][1]}
            for i, name in enumerate(pictures)
        ]
        boxes = [
            {"image_id": i, "category_id": ids[n], "bbox": [x, y, r - x, b - y], "iscrowd": k // 2}
            for i, things in enumerate(pictures.values())
            for k, (n, x, y, r, b) in enumerate(things)
        ]
        categories = [{"id": i, "name": name} for name, i in ids.items()]
        content = {"images": images, "annotations": boxes, "categories": categories}
        text = json.dumps(content, indent=0)
        write_text(folder / "annotations" / f"instances_{split}.json", text)


WRITERS: dict[str, Callable[[Path], None]] = {
    "playing cards": _write_cards,
    "LabelImg": _write_flat,
    "LabelImg split": _write_split,
    "VOC": _write_voc,
    "COCO": _write_coco,
}
