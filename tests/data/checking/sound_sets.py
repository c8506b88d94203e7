"""Six sound pictures with an ace and a king each, in every layout, and ways to change them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.data_sets import (
    ACE,
    KING,
    SIZE,
    Thing,
    coco_content,
    save_oriented,
    write_cards,
    write_charlotte,
    write_json,
    write_voc,
    xml_text,
)

NAMES = ("a", "b", "c", "d", "e", "f")
PICTURES = {f"{name}.jpg": [ACE, KING] for name in NAMES}
FIRST, LAST = (dict(list(PICTURES.items())[part]) for part in (slice(4), slice(4, None)))
Change = Callable[[Path], object]


def picture(path: Path, number: int, size: tuple[int, int] = SIZE) -> Path:
    """Noise that no other number gives: no two pictures look alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST).save(path, quality=95)
    return path


def with_noise(folder: Path) -> Path:
    """The data set with noise for its pictures."""
    for number, path in enumerate(sorted(folder.rglob("*.jpg"))):
        picture(path, number)
    return folder


def charlotte(folder: Path) -> Path:
    return with_noise(write_charlotte(folder, PICTURES))


def cards(folder: Path) -> Path:
    """Four to train and two to test."""
    return with_noise(write_cards(folder, FIRST, LAST))


def voc(folder: Path) -> Path:
    """With lists; its pixels count from 1."""
    lists = {"train": NAMES[:4], "val": NAMES[4:]}
    return with_noise(write_voc(folder, dict.fromkeys(NAMES, [ACE, KING]), lists))


def coco(folder: Path) -> Path:
    """One file, which states no sizes. The images' ids are 7, 17, 27 and so on."""
    content = coco_content(PICTURES, {"ace": 1, "king": 2})
    for number, image in enumerate(content["images"]):
        picture(folder / "images" / image["file_name"], number)
        del image["width"], image["height"]
    write_json(folder / "annotations.json", content)
    return folder


# ---- changes: each returns a function of the data set's folder


def all_of(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes]


def objects(*things: Thing, of: str = "a", **options: Any) -> Change:
    """Other objects in the XML files of these names."""
    return all_of(*(raw(f"{n}.xml", xml_text(things, f"{n}.jpg", **options)) for n in of))


def raw(file: str, content: str | bytes) -> Change:
    content = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / file).write_bytes(content)


def rewritten(file: str, new: Callable[[bytes], bytes]) -> Change:
    return lambda folder: (folder / file).write_bytes(new((folder / file).read_bytes()))


def edited(file: str, old: str, new: str, count: int = -1) -> Change:
    def change(raw: bytes) -> bytes:
        assert old in raw.decode()
        return raw.decode().replace(old, new, count).encode()

    return rewritten(file, change)


def without(*files: str) -> Change:
    """Patterns of files that are removed."""
    return lambda folder: [path.unlink() for file in files for path in list(folder.glob(file))]


def added(file: str) -> Change:
    return lambda folder: picture(folder / file, 99)


def moved(file: str, to: str) -> Change:
    return lambda folder: (folder / file).rename(folder / to)


def copied(file: str, to: str) -> Change:
    return lambda folder: (folder / to).write_bytes((folder / file).read_bytes())


def cut(file: str) -> Change:
    """The first half of a file."""
    return rewritten(file, lambda whole: whole[: len(whole) // 2])


def rotated(file: str, orientation: int, size: tuple[int, int]) -> Change:
    """A picture whose EXIF data ask for a rotation."""

    def change(folder: Path) -> None:
        with Image.open(picture(folder / file, 77, size)) as image:
            save_oriented(folder / file, image, orientation)

    return change


def lines_of(file: str, choose: Callable[[list[bytes]], list[bytes]]) -> Change:
    return rewritten(file, lambda raw: b"".join(choose(raw.splitlines(keepends=True))))


def coco_rows(*rows: dict[str, Any]) -> Change:
    """More annotations in the JSON; of a row what is not given is in order."""
    sound = {"image_id": 7, "category_id": 1, "bbox": [1, 1, 2, 2]}

    def change(raw: bytes) -> bytes:
        content = json.loads(raw)
        content["annotations"] += [{**sound, "id": i, **row} for i, row in enumerate(rows)]
        return json.dumps(content).encode()

    return rewritten("annotations.json", change)
