"""The tiny valid data sets that the fuzzer damages, one of each layout."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.data_sets import (
    Pictures,
    Thing,
    coco_content,
    draw_image,
    write_cards,
    write_charlotte,
    write_json,
    write_text,
    write_voc,
)
from tests.fuzz_mutations import mutate

SIZES = {"a": (32, 24), "b": (16, 32), "c": (8, 8), "d": (24, 12), "e": (20, 20), "f": (9, 31)}
ACE: Thing = ("ace", 2, 1, 7, 8)
KING: Thing = ("king", 1.5, 2.25, 6.75, 9)  # over the edge of the smallest
QUEEN: Thing = ("queen", 1, 1, 8, 8)
SPLITS = {
    "train": {"a": [ACE, KING], "b": [KING, QUEEN], "c": [ACE, KING, QUEEN], "d": []},
    "val": {"e": [KING, ACE], "f": [QUEEN]},
}
TRAIN, VALIDATION = ({f"{n}.png": things for n, things in s.items()} for s in SPLITS.values())
CLASSES = ("queen", "king", "ace")


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
    writers: dict[str, Callable[[Path], object]] = {
        "playing cards": lambda inside: write_cards(inside, TRAIN, VALIDATION, SIZES),
        "LabelImg": lambda inside: write_charlotte(inside, {**TRAIN, **VALIDATION}, CLASSES, SIZES),
        "LabelImg split": _write_split,
        "VOC": _write_voc,
        "COCO": _write_coco,
    }
    victims = []
    for layout, write in writers.items():
        inside = folder / layout.replace(" ", "-")
        write(inside)
        for path in inside.rglob("*.xml"):
            # One line per tag, so that a mutation of lines is one of tags.
            text = path.read_text().replace("<difficult>0", "<difficult>1", 1)
            write_text(path, text.replace("><", ">\n<"))
        texts = [p for p in sorted(inside.rglob("*.*")) if p.suffix not in (".png", ".jpg")]
        victims.append(Victim(layout, inside, {p: p.read_bytes() for p in texts}))
    return victims


def _write_split(folder: Path) -> None:
    for split, pictures in (("train", TRAIN), ("val", VALIDATION)):
        write_charlotte(folder / split, pictures, sizes=SIZES)
    write_text(folder / "classes.txt", "\n".join(CLASSES) + "\n")


def _write_voc(folder: Path) -> None:
    both: Pictures = {**SPLITS["train"], **SPLITS["val"]}
    write_voc(folder, both, {split: list(ids) for split, ids in SPLITS.items()}, SIZES)


def _write_coco(folder: Path) -> None:
    for split, pictures in (("train", TRAIN), ("val", VALIDATION)):
        content = coco_content(pictures, {"king": 3, "ace": 7, "queen": 90}, SIZES)
        for row in content["annotations"]:
            row["iscrowd"] = row["id"] % 100 // 2  # the third object of an image
        write_json(folder / "annotations" / f"instances_{split}.json", content, indent=0)
        for name, things in pictures.items():
            draw_image(folder / split / name, things, SIZES[Path(name).stem])
