"""Every way in which data sets are known to be wrong: what is said, and that nothing is touched."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import checker
import main
from data import open_dataset
from data.checking.check import Check, check_dataset
from tests.data_sets import (
    ACE,
    KING,
    SIZE,
    csv_text,
    write_cards,
    write_charlotte,
    write_text,
    write_voc,
    xml_text,
)
from utils.errors import UserError

NAMES = ("a", "b", "c", "d", "e", "f")
State = dict[str, tuple[bytes | None, int, int]]


def picture(path: Path, number: int, size: tuple[int, int] = SIZE) -> Path:
    """Noise that no other number gives: no two pictures look alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST).save(path, quality=95)
    return path


def charlotte(folder: Path) -> Path:
    """Six sound pictures with an ace and a king each, in LabelImg's layout."""
    write_charlotte(folder, {f"{name}.jpg": [ACE, KING] for name in NAMES})
    for number, name in enumerate(NAMES):
        picture(folder / f"{name}.jpg", number)
    return folder


def cards(folder: Path) -> Path:
    """The same in the cards' layout, four to train and two to test."""
    split = {f"{name}.jpg": [ACE, KING] for name in NAMES}
    train = {name: split[name] for name in list(split)[:4]}
    write_cards(folder, train, {name: split[name] for name in list(split)[4:]})
    for number, path in enumerate(sorted(folder.rglob("*.jpg"))):
        picture(path, number)
    return folder


def voc(folder: Path) -> Path:
    """The same as VOC has it, with lists; its pixels count from 1."""
    write_voc(folder, dict.fromkeys(NAMES, [ACE, KING]), {"train": NAMES[:4], "val": NAMES[4:]})
    for number, path in enumerate(sorted((folder / "JPEGImages").iterdir())):
        picture(path, number)
    return folder


def coco(folder: Path) -> Path:
    """The same as one COCO file."""
    content: dict[str, list[dict[str, object]]] = {"images": [], "annotations": []}
    content["categories"] = [{"id": 1, "name": "ace"}, {"id": 2, "name": "king"}]
    for number, name in enumerate(NAMES):
        picture(folder / "images" / f"{name}.jpg", number)
        content["images"].append({"id": 7 + number, "file_name": f"{name}.jpg"})
        for category, (_, x, y, right, bottom) in enumerate((ACE, KING), start=1):
            row = {"image_id": 7 + number, "category_id": category, "iscrowd": 0}
            content["annotations"].append({**row, "bbox": [x, y, right - x, bottom - y]})
    write_text(folder / "annotations.json", json.dumps(content))
    return folder


def state(folder: Path) -> State:
    """Bytes, time and rights of everything in the folder."""
    return {
        str(p): (p.read_bytes() if p.is_file() else None, p.lstat().st_mtime_ns, p.lstat().st_mode)
        for p in [folder, *sorted(folder.rglob("*"))]
    }


def xml(folder: Path, name: str, text: str | bytes) -> None:
    (folder / f"{name}.xml").write_bytes(text if isinstance(text, bytes) else text.encode())


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@dataclass(frozen=True)
class Case:
    """What is done to a sound data set, and what is said then.

    said: texts that are expected in the lines of the check.
    """

    name: str
    base: Callable[[Path], Path]
    break_it: Callable[[Path], object]
    verdict: str
    said: tuple[str, ...]


def case(
    verdict: str, *said: str, base: Callable[[Path], Path] = charlotte
) -> Callable[[Callable[[Path], object]], Callable[[Path], object]]:
    def register(break_it: Callable[[Path], object]) -> Callable[[Path], object]:
        CASES.append(Case(break_it.__name__, base, break_it, verdict, said))
        return break_it

    return register


CASES: list[Case] = []

# ---- boxes


@case("clean")
def tags_in_another_order(folder: Path) -> None:
    box = "<ymax>30.5</ymax><xmin>4.25</xmin><ymin>6</ymin><xmax>20</xmax>"
    text = f"<annotation><object><name>ace</name><bndbox>{box}</bndbox></object></annotation>"
    xml(folder, "a", text)


@case(
    "unusable",
    "a.xml, object 2 'king': inverted corners",
    "b.xml, object 1 'ace': inverted corners",
    "probably the corners are swapped",
)
def inverted_corners(folder: Path) -> None:
    xml(folder, "a", xml_text([ACE, ("king", 60, 10, 30, 44)]))
    xml(folder, "b", xml_text([("ace", 4, 30, 20, 6)], "b.jpg"))


@case("unusable", "xmax and ymax hold the box's width and height")
def width_and_height_in_xmax_and_ymax(folder: Path) -> None:
    xml(folder, "a", xml_text([ACE, ("king", 40, 20, 20, 10)]))


@case("problems", "boxes without area, dropped: 2", "a.xml, object 2 'king'")
def boxes_without_area(folder: Path) -> None:
    xml(folder, "a", xml_text([ACE, ("king", 9, 9, 9, 20), ("king", 9, 9, 20, 9)]))


@case("problems", "reach over the edge of their image, clipped: 1", "a.jpg, 'ace' (-3, 2, 40, 30)")
def slightly_outside(folder: Path) -> None:
    xml(folder, "a", xml_text([("ace", -3, 2, 40, 30)]))


@case("clean", "by a pixel at most, clipped: 1 (e.g.")
def outside_by_the_rounding_of_a_pixel(folder: Path) -> None:
    xml(folder, "a", xml_text([("ace", -0.6, 2, 40, 30)]))


@case("problems", "mostly outside of their image, dropped: 1", "'ace' (40, 10, 200, 20)")
def mostly_outside(folder: Path) -> None:
    xml(folder, "a", xml_text([("ace", 40, 10, 200, 20), KING]))


@case("problems", "entirely outside of their image, dropped: 1", "'ace' (70, 10, 90, 20)")
def entirely_outside(folder: Path) -> None:
    xml(folder, "a", xml_text([("ace", 70, 10, 90, 20), KING]))


@case("unusable", "no object of the training split lies inside its image")
def all_boxes_outside(folder: Path) -> None:
    for name in NAMES:
        xml(folder, name, xml_text([("ace", 70, 10, 90, 20)]))


@case("problems", "boxes less than a pixel wide or high: 1", "a.jpg, 'ace' (4, 6, 4.5, 20)")
def a_box_thinner_than_a_pixel(folder: Path) -> None:
    xml(folder, "a", xml_text([("ace", 4, 6, 4.5, 20), KING]))


@case("unusable", "6 of 6 boxes have all coordinates between 0 and 1", "expected pixels")
def shares_of_the_image_instead_of_pixels(folder: Path) -> None:
    for name in NAMES:
        xml(folder, name, xml_text([("ace", 0.25, 0.5, 0.75, 1)]))


@case("unusable", "object 1 'ace': inverted", "object 3 'king': inverted", "object 4 ''")
def several_faults_in_one_xml(folder: Path) -> None:
    wrong = [("ace", 9, 1, 5, 9), KING, ("king", 9, 1, 5, 9), (" ", 1, 1, 9, 9)]
    xml(folder, "a", xml_text(wrong))


@case("unusable", "line 2, 'ace': inverted", "line 4, 'ace': xmax is 'x'", base=cards)
def several_faults_in_one_table(folder: Path) -> None:
    edit(folder / "train_labels.csv", "a.jpg,64,48,ace,4", "a.jpg,64,48,ace,40")
    edit(folder / "train_labels.csv", "b.jpg,64,48,ace,4,6,20", "b.jpg,64,48,ace,4,6,x")


@case("unusable", "annotation 0: image_id 99", "annotation 1: category_id 9", base=coco)
def several_faults_in_one_coco_file(folder: Path) -> None:
    path = folder / "annotations.json"
    content = json.loads(path.read_text())
    row = {"image_id": 7, "category_id": 1, "bbox": [1, 1, 2, 2]}
    content["annotations"] += [{**row, "id": 0, "image_id": 99}, {**row, "id": 1, "category_id": 9}]
    path.write_text(json.dumps(content))


@case("unusable", "xmin is 'nan'", "ymax is missing")
def coordinates_that_are_no_numbers(folder: Path) -> None:
    xml(folder, "a", xml_text([("ace", float("nan"), 1, 9, 9)]))
    edit(folder / "b.xml", "<ymax>30</ymax>", "")


@case("problems", "duplicate objects, removed: 1", "a.xml, object 3 'ace'")
def duplicate_objects(folder: Path) -> None:
    xml(folder, "a", xml_text([ACE, KING, ACE]))


@case("problems", "mostly outside of their image, dropped: 1", "'cat' (-51, 4, 10, 20)", base=voc)
def voc_boxes_over_the_left_edge(folder: Path) -> None:
    xml(folder / "Annotations", "a", xml_text([ACE, ("cat", -50, 5, 10, 20), ("cat", 0, 0, 9, 9)]))


@case("problems", "duplicate rows, removed: 1", "line 3", base=cards)
def duplicate_rows(folder: Path) -> None:
    path = folder / "train_labels.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], lines[1], lines[1], *lines[2:]]))


# ---- sizes


@case("problems", "another size than their image's; the image counts: 1", "60x40", "is 64x48")
def a_size_unlike_the_image_s(folder: Path) -> None:
    xml(folder, "a", xml_text([ACE], size=(60, 40)))


@case("clean", "state no size of their image, or 0; the picture's is used: 2", "b.xml")
def a_size_of_zero(folder: Path) -> None:
    xml(folder, "a", xml_text([ACE], size=(0, 0)))
    edit(folder / "b.xml", "<size><width>64</width><height>48</height><depth>3</depth></size>", "")
    xml(folder, "c", xml_text([], size=(0, 0)))  # no box depends on it


@case("problems", "a.xml states 48x64", "width and height exchanged")
def width_and_height_exchanged(folder: Path) -> None:
    xml(folder, "a", xml_text([ACE], size=(48, 64)))


@case("unusable", "boxes for a picture of 640x480", "was it resized after it was labelled?")
def an_image_resized_after_it_was_labelled(folder: Path) -> None:
    xml(folder, "a", xml_text([("ace", 400, 300, 600, 400)], size=(640, 480)))


def save_turned(path: Path, orientation: int, size: tuple[int, int]) -> None:
    picture(path, 77, size)
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(path) as image:
        image.save(path, exif=exif)


@case("clean")
def exif_that_explains_the_size(folder: Path) -> None:
    save_turned(folder / "a.jpg", 6, (48, 64))
    save_turned(folder / "b.jpg", 8, (64, 48))  # annotated as stored


@case("problems", "EXIF turns and whose size cannot tell", "a.jpg")
def exif_that_no_size_explains(folder: Path) -> None:
    save_turned(folder / "a.jpg", 3, (64, 48))


@case("problems", "EXIF turns and whose annotation states no size", "a.jpg")
def exif_without_a_size_that_could_explain_it(folder: Path) -> None:
    save_turned(folder / "a.jpg", 6, (48, 64))
    xml(folder, "a", xml_text([ACE], size=(0, 0)))


@case("problems", "states no size that could tell", ": 1 (e.g. ", base=coco)
def exif_of_coco_without_sizes(folder: Path) -> None:
    save_turned(folder / "images" / "a.jpg", 8, (48, 64))


# ---- images


@case("clean")
def names_in_other_spellings(folder: Path) -> None:
    """Another extension, other capitals, paths of Windows and Linux."""
    (folder / "a.jpg").rename(folder / "A.JPG")
    xml(folder, "b", xml_text([ACE], "C:\\photos\\b.png"))
    xml(folder, "c", xml_text([ACE], "/home/me/c.jpeg"))


@case("clean", base=cards)
def paths_of_other_machines_in_a_table(folder: Path) -> None:
    edit(folder / "train_labels.csv", "a.jpg", "D:\\cards\\train\\a.JPEG")
    edit(folder / "train_labels.csv", "b.jpg", "/mnt/cards/b.png")


@case("clean")
def content_of_another_format_than_the_extension_says(folder: Path) -> None:
    with Image.open(folder / "a.jpg") as image:
        image.save(folder / "a.jpg", format="PNG")


@case("unusable", "annotation file(s) without their image: 2", "a.xml (image a.jpg)", "b.xml")
def missing_images(folder: Path) -> None:
    (folder / "a.jpg").unlink()
    (folder / "b.jpg").unlink()


@case("unusable", "image(s) not found in", "line 2, 'a.jpg'", "line 4, 'b.jpg'", base=cards)
def images_missing_from_a_table(folder: Path) -> None:
    (folder / "train" / "a.jpg").unlink()
    (folder / "train" / "b.jpg").unlink()


@case(
    "unusable",
    "image(s) that cannot be read: 4",
    "a.jpg: the image cannot be read (image file is truncated",
    "b.jpg: the file is empty",
    "c.jpg: not a picture in any format that is read",
    "d.png: the image cannot be read",
)
def damaged_images(folder: Path) -> None:
    whole = (folder / "a.jpg").read_bytes()
    (folder / "a.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "b.jpg").write_bytes(b"")
    (folder / "c.jpg").write_text("<html>404</html>")
    (folder / "d.jpg").unlink()
    whole = picture(folder / "d.png", 9).read_bytes()
    (folder / "d.png").write_bytes(whole[: len(whole) // 2])


@case("unusable", "a.png: larger than", "decompression bombs (--max-megapixels")
def a_decompression_bomb(folder: Path) -> None:
    (folder / "a.jpg").unlink()
    content = bytearray(picture(folder / "a.png", 1).read_bytes())
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    (folder / "a.png").write_bytes(content)
    edit(folder / "a.xml", "64</width>", "60000</width>")


@case("clean")
def every_mode_of_pixels(folder: Path) -> None:
    for name, mode in zip(NAMES, ("L", "LA", "RGBA", "P", "I;16", "CMYK"), strict=True):
        with Image.open(folder / f"{name}.jpg") as image:
            if mode == "I;16":
                wide = np.asarray(image.convert("L")).astype(np.uint16) * 257
                changed = Image.fromarray(wide)
            else:
                changed = image.convert(mode)
        (folder / f"{name}.jpg").unlink()
        changed.save(folder / f"{name}.{'tif' if mode == 'CMYK' else 'png'}")


@case("problems", "validation images that are training images too: 1", "e.jpg is", base=cards)
def the_same_image_in_both_splits(folder: Path) -> None:
    (folder / "test" / "e.jpg").write_bytes((folder / "train" / "b.jpg").read_bytes())


@case("problems", "nearly are training images: 1", "looks like", base=cards)
def an_image_saved_again_in_the_other_split(folder: Path) -> None:
    with Image.open(folder / "train" / "b.jpg") as image:
        image.resize((96, 72)).save(folder / "test" / "e.jpg", quality=60)
    edit(folder / "test_labels.csv", "e.jpg,64,48", "e.jpg,96,72")


@case("problems", "in training and in validation", "a.jpg", base=cards)
def one_file_in_both_tables(folder: Path) -> None:
    (folder / "test" / "e.jpg").unlink()
    (folder / "train" / "a.jpg").rename(folder / "a.jpg")
    edit(folder / "test_labels.csv", "e.jpg", "a.jpg")


@case("clean", "in the training split twice: 1", base=cards)
def an_image_twice_in_training(folder: Path) -> None:
    (folder / "train" / "a.jpg").write_bytes((folder / "train" / "b.jpg").read_bytes())


# ---- names


@case(
    "unusable",
    "classes not in the list ace, king",
    "'knig' in 1 object(s)",
    "did you mean 'king'?",
    base=cards,
)
def a_class_that_training_does_not_have(folder: Path) -> None:
    path = folder / "test_labels.csv"
    path.write_text(path.read_text().replace("king", "knig", 1))


@case("problems", "misspelt: 'knig' in 1 object(s); did you mean 'king', which 11 have?")
def a_class_misspelt_once(folder: Path) -> None:
    for name in NAMES:
        xml(folder, name, xml_text([KING, ("king", 2, 2, 20, 20)], f"{name}.jpg"))
    xml(folder, "a", xml_text([KING, ("knig", 2, 2, 20, 20)]))


@case("clean")
def rare_classes_that_differ_by_a_number(folder: Path) -> None:
    for name in NAMES:
        xml(folder, name, xml_text([("plate 2", 2, 2, 20, 20), ("plate 2", 30, 2, 50, 20)]))
    things = [("plate 2", 2, 2, 20, 20), ("plate 2", 30, 2, 50, 20), ("plate 1", 5, 20, 20, 40)]
    xml(folder, "a", xml_text(things))


@case("problems", "classes added to those of", "'king' in 6 object(s)")
def classes_txt_that_lacks_a_class(folder: Path) -> None:
    write_text(folder / "classes.txt", "\ufefface\n\n")


@case("problems", "is not used: none of its names (dog, person) occurs")
def classes_txt_of_another_data_set(folder: Path) -> None:
    write_text(folder / "classes.txt", "dog\nperson\n")


@case("clean")
def classes_txt_with_byte_order_mark_and_blank_lines(folder: Path) -> None:
    (folder / "classes.txt").write_bytes(b"\xef\xbb\xbface\r\nking\r\n\r\n")


@case("problems", "classes that differ only in capitals", "Ace / ace")
def classes_that_differ_in_capitals(folder: Path) -> None:
    edit(folder / "a.xml", "<name>ace", "<name>Ace")
    edit(folder / "b.xml", "<name>ace", "<name>Ace")


@case("clean", "one class only")
def one_class_only(folder: Path) -> None:
    for name in NAMES:
        xml(folder, name, xml_text([ACE], f"{name}.jpg"))


# ---- files


@case("unusable", "a.xml: not readable as XML", "b.xml: the root element is <project>", "c.xml")
def xml_that_is_none(folder: Path) -> None:
    xml(folder, "a", b"\xff\xfe\xff")
    xml(folder, "b", "<project/>")
    xml(folder, "c", xml_text([("d\u00e1ma", 1, 1, 9, 9)]).encode("latin-1"))


@case("clean")
def xml_in_a_declared_encoding(folder: Path) -> None:
    for name in ("a", "b", "c"):
        text = '<?xml version="1.0" encoding="latin-1"?>' + xml_text([("d\u00e1ma", 1, 1, 9, 9)])
        xml(folder, name, text.encode("latin-1"))


@case("unusable", "the XML declares entities")
def an_entity_bomb(folder: Path) -> None:
    xml(folder, "a", '<!DOCTYPE a [<!ENTITY e "ace">]>' + xml_text([ACE]))


@case("clean")
def files_that_macos_leaves(folder: Path) -> None:
    for name in ("._a.xml", "._a.jpg", ".DS_Store"):
        (folder / name).write_bytes(b"\x00\x05\x16\x07")


@case("problems", "no header; the columns are taken as filename,width,height,class", base=cards)
def a_table_without_header(folder: Path) -> None:
    path = folder / "train_labels.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))


@case("problems", "the columns are taken as filename,xmin,ymin,xmax,ymax,class", base=cards)
def a_table_of_another_tool_without_header(folder: Path) -> None:
    rows = [f"train/{name}.jpg,4,6,20,30,{k}\n" for name in NAMES[:4] for k in ("ace", "king")]
    (folder / "train_labels.csv").write_text("".join(rows))


@case("clean", base=cards)
def a_table_with_other_columns_first(folder: Path) -> None:
    header = "class,xmax,ymax,xmin,ymin,filename,comment\n"
    rows = [f"{k},20,30,4,6,{n}.jpg,x\n" for n in NAMES[:4] for k in ("ace", "king")]
    (folder / "train_labels.csv").write_text(header + "".join(rows) + "\n")


@case("unusable", "no column class, xmin", base=cards)
def a_table_with_other_names_of_columns(folder: Path) -> None:
    edit(folder / "train_labels.csv", "class,xmin", "label,x1")


@case("problems", "images that no CSV row names, not used: 1", "stray.jpg", base=cards)
def an_image_that_no_row_mentions(folder: Path) -> None:
    picture(folder / "train" / "stray.jpg", 99)


@case("unusable", "(restore the files or remove the names): 1 (f)", base=voc)
def an_image_of_a_list_without_xml(folder: Path) -> None:
    (folder / "Annotations" / "f.xml").unlink()


@case("problems", "classes that only the validation split has, never trained: 'queen'", base=voc)
def a_class_that_only_voc_s_validation_has(folder: Path) -> None:
    edit(folder / "Annotations" / "e.xml", "<name>ace", "<name>queen")


@case("problems", "images without an XML file, not used: 1", base=voc)
def voc_images_without_xml_or_list(folder: Path) -> None:
    for path in (folder / "ImageSets" / "Main").iterdir():
        path.unlink()
    picture(folder / "JPEGImages" / "z.jpg", 99)


@case("unusable", "image 7, 'a.jpg'", "annotation 0: bbox is [1, 2]; expected", base=coco)
def coco_that_lacks_an_image_and_a_corner(folder: Path) -> None:
    (folder / "images" / "a.jpg").unlink()
    path = folder / "annotations.json"
    content = json.loads(path.read_text())
    content["annotations"].append({"id": 0, "image_id": 8, "category_id": 1, "bbox": [1, 2]})
    path.write_text(json.dumps(content))


@case("unusable", "image 7: file_name is 3", "image 8: file_name is ''", base=coco)
def coco_images_without_names(folder: Path) -> None:
    edit(folder / "annotations.json", '"a.jpg"', "3")
    edit(folder / "annotations.json", '"b.jpg"', '""')


@case("unusable", "a.heic: not a picture in any format that is read", base=cards)
def an_image_in_a_format_that_is_not_read(folder: Path) -> None:
    (folder / "train" / "a.jpg").unlink()
    (folder / "train" / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" * 9)
    edit(folder / "train_labels.csv", "a.jpg", "a.heic")


@case("clean", "images without an XML file, taken as images without objects: 1")
def an_image_without_xml(folder: Path) -> None:
    picture(folder / "z.jpg", 99)


@case("clean", base=cards)
def both_forms_of_an_image_without_objects(folder: Path) -> None:
    edit(folder / "train_labels.csv", csv_text({"a.jpg": [ACE, KING]}).split("\n", 1)[1], "")
    with (folder / "train_labels.csv").open("a") as file:
        file.write("a.jpg,,,,,,,\n")


@case("unusable", "without any object; expected images with annotated objects")
def no_objects_at_all(folder: Path) -> None:
    for name in NAMES:
        xml(folder, name, xml_text([], f"{name}.jpg"))


@case("unusable", "the folder is empty")
def an_empty_folder(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


@case("unusable", "no data set recognised; found 6 images")
def images_without_annotations(folder: Path) -> None:
    for path in folder.glob("*.xml"):
        path.unlink()


@pytest.fixture(params=CASES, ids=[c.name for c in CASES])
def checked(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Case, Path, State]]:
    """A case, its data set, and how that was; it has to be the same afterwards."""
    folder = request.param.base(tmp_path / "data")
    request.param.break_it(folder)
    before = state(folder)
    yield request.param, folder, before
    assert state(folder) == before
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


def lines(check: Check) -> str:
    return "\n".join(line for r in check.remarks for line in (r.line(), *r.places))


def test_what_is_wrong_is_said_and_nothing_is_touched(checked: tuple[Case, Path, State]) -> None:
    wrong, folder, _ = checked
    check = check_dataset(folder)
    assert check.verdict == wrong.verdict, lines(check)
    for said in wrong.said:
        assert said in lines(check), lines(check)
    if wrong.verdict == "clean":
        assert not check.problems


def test_training_starts_with_whole_samples_or_refuses_in_one_line(
    checked: tuple[Case, Path, State],
) -> None:
    wrong, folder, _ = checked
    try:
        splits = open_dataset(folder)
    except UserError as error:
        assert wrong.verdict == "unusable" and "\n" not in str(error)
        assert str(folder) in str(error)
        return
    assert wrong.verdict != "unusable"
    for split in (splits.train, splits.validation):
        for row in range(len(split)):
            image, target = split[row]  # type: ignore[misc]
            boxes = target["boxes"]
            assert len(boxes) == len(target["labels"])
            assert (boxes[:, 2:] > boxes[:, :2]).all() and (boxes >= 0).all()
            assert (boxes[:, 2] <= image.shape[2]).all() and (boxes[:, 3] <= image.shape[1]).all()


@pytest.mark.parametrize("base", [charlotte, cards, voc, coco])
def test_a_sound_data_set_is_clean(base: Callable[[Path], Path], tmp_path: Path) -> None:
    check = check_dataset(base(tmp_path))
    assert check.verdict == "clean" and not check.problems
    assert sum(s.images for s in check.splits) == 6 and sum(s.objects for s in check.splits) == 12
    assert {n: sum(c) for n, c in check.classes.items()} == {"ace": 6, "king": 6}


# ---- the command


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main.main(["--check", *arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_the_exit_status_is_the_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = charlotte(tmp_path / "data")
    status, out, err = run(capsys, "-p", str(folder))
    assert (status, err) == (0, "") and "verdict   clean" in out
    assert all(word in out for word in ("training", "validation", "ace", "king", "64x48"))
    slightly_outside(folder)
    status, out, _ = run(capsys, "-p", str(folder))
    assert status == 1 and "verdict   problems: 1" in out and "clipped: 1" in out
    inverted_corners(folder)
    status, out, _ = run(capsys, "-p", str(folder))
    assert status == 2 and "verdict   unusable: 2" in out
    assert out.count("inverted corners") == 2
    status, out, _ = run(capsys, "-p", str(tmp_path / "dat"))
    assert status == 2 and "no such folder (did you mean 'data'?)" in out


def test_bad_images_are_left_out_counted_and_listed_where_the_user_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = cards(tmp_path)
    damaged = folder / "train" / "a.jpg"
    damaged.write_bytes(b"")
    (folder / "test" / "e.jpg").unlink()
    with pytest.raises(UserError) as caught:
        open_dataset(folder)
    message = str(caught.value)
    assert "1 image(s) that cannot be read: train/a.jpg: the file is empty" in message
    assert "1 image(s) not found in" in message and "'e.jpg'" in message
    assert "--on-bad-image skip" in message and "\n" not in message
    splits = open_dataset(folder, skip_bad_images=True)
    assert (len(splits.train), len(splits.validation)) == (3, 1)
    assert any("cannot be read: 1" in n and "a.jpg" in n for n in splits.notes)
    assert any("not found" in n and "'e.jpg'" in n for n in splits.notes)
    assert run(capsys, "-p", str(folder))[0] == 2
    assert run(capsys, "-p", str(folder), "--on-bad-image", "skip")[0] == 1


def test_where_every_image_is_bad_nothing_is_left_to_skip_to(tmp_path: Path) -> None:
    folder = cards(tmp_path)
    for path in folder.rglob("*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="no training image can be read"):
        open_dataset(folder, skip_bad_images=True)


def test_the_report_holds_everything_for_machines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = charlotte(tmp_path / "data")
    inverted_corners(folder)
    damaged_images(folder)
    report = tmp_path / "report.json"
    assert run(capsys, "-p", str(folder), "--check-report", str(report))[0] == 2
    content = json.loads(report.read_text())
    assert content["verdict"] == "unusable" and content["layout"] == "Charlotte"
    assert content["path"] == str(folder)
    by_severity = {problem["severity"]: problem for problem in content["problems"]}
    assert by_severity["error"]["count"] == len(by_severity["error"]["places"]) == 2
    assert by_severity["bad image"]["count"] == 4 and by_severity["bad image"]["refused"]
    assert [split["name"] for split in content["splits"]] == ["training", "validation"]
    report.unlink()
    assert run(capsys, "-p", str(tmp_path / "no"), "--check-report", str(report))[0] == 2
    assert json.loads(report.read_text())["layout"] is None


def odd_splits(folder: Path) -> Path:
    """One image without objects and one of another size; two objects are difficult.

    Roots of the boxes' areas: 20 and 30 in training, 40 in validation.
    """
    squares = {20: ("ace", 0, 0, 20, 20), 30: ("king", 0, 0, 30, 30), 40: ("king", 0, 0, 40, 40)}
    things = {"a": [squares[20]], "b": [squares[30]], "c": [], "d": [squares[40]]}
    for number, (name, objects) in enumerate(things.items()):
        split, size = ("val" if name == "d" else "train"), ((80, 60) if name == "b" else SIZE)
        picture(folder / split / f"{name}.jpg", number, size)
        text = xml_text(objects, f"{name}.jpg", size, difficult=[int(name in "ad")])
        xml(folder / split, name, text)
    return folder


def test_the_report_holds_every_number_of_the_splits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    folder = odd_splits(tmp_path / "data")
    assert run(capsys, "-p", str(folder), "--check-report", str(report))[0] == 0
    content = json.loads(report.read_text())
    training, validation = content["splits"]
    assert training == {
        "name": "training",
        "images": 3,
        "empty": 1,
        "objects": 2,
        "difficult": 1,
        "classes": 2,
        "sizes": [[64, 48, 2], [80, 60, 1]],
        "object_side": 25.0,
    }
    assert validation == {
        **training,
        "name": "validation",
        **{"images": 1, "empty": 0, "objects": 1, "classes": 1},
        "sizes": [[64, 48, 1]],
        "object_side": 40.0,
    }
    ace, king = {"training": 1, "validation": 0}, {"training": 1, "validation": 1}
    assert content["classes"] == {"ace": ace, "king": king}
    assert content["problems"] == []


def test_notes_are_in_the_report_with_all_their_places(tmp_path: Path) -> None:
    folder = cards(tmp_path)
    for name in "acd":
        (folder / "train" / f"{name}.jpg").write_bytes((folder / "train" / "b.jpg").read_bytes())
    (note,) = check_dataset(folder).as_plain()["notes"]
    assert note["what"] == "images that are in the training split twice"
    assert (note["severity"], note["refused"]) == ("note", False)
    assert note["count"] == len(note["places"]) == 3


def test_the_tables_show_every_number_of_the_splits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run(capsys, "-p", str(odd_splits(tmp_path)))[1]
    cells = [line.split("\u2502")[1:-1] for line in out.splitlines() if line.startswith("\u2502")]
    table = {row[0].strip(): tuple(cell.strip() for cell in row[1:]) for row in cells}
    assert table == {
        "images": ("3", "1"),
        "without objects": ("1", "0"),
        "objects": ("2", "1"),
        "difficult": ("1", "1"),
        "classes": ("2", "1"),
        "object size (px)": ("25", "40"),
        "image sizes": ("64x48 (2), 80x60 (1)", "64x48 (1)"),
        "ace": ("1", "0"),
        "king": ("1", "1"),
    }


def test_a_split_without_objects_has_no_object_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = odd_splits(tmp_path)
    xml(folder / "val", "d", xml_text([], "d.jpg"))
    assert check_dataset(folder).splits[1].object_side is None
    assert "n/a" in run(capsys, "-p", str(folder))[1]


def test_the_command_shows_how_far_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[int, int]] = []

    @contextmanager
    def bar(label: str) -> Iterator[Callable[[int, int], None]]:
        yield lambda done, total: shown.append((done, total))

    monkeypatch.setattr(checker, "progress_bar", bar)
    run(capsys, "-p", str(cards(tmp_path)))
    assert shown == [(n, 6) for n in range(1, 7)]


def test_the_report_is_never_written_into_the_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = charlotte(tmp_path / "data")
    before = state(folder)
    for place in (folder / "x.json", folder / "new" / "x.json", tmp_path, tmp_path / "no" / "x"):
        status, _, err = run(capsys, "-p", str(folder), "--check-report", str(place))
        assert status == 2 and "--check-report" in err and err.count("\n") == 1
    assert state(folder) == before


def test_the_limit_of_pixels_can_be_raised_and_lowered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # undone afterwards
    folder = str(charlotte(tmp_path))
    status, out, _ = run(capsys, "-p", folder, "--max-megapixels", "0.003")
    assert status == 2 and out.count("larger than 0.003 megapixels") == 6
    assert run(capsys, "-p", folder, "--max-megapixels", "0.0031")[0] == 0


def test_a_data_set_that_may_not_be_written_is_checked(tmp_path: Path) -> None:
    folder = charlotte(tmp_path / "data")
    for path in (*folder.iterdir(), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = state(folder)
    try:
        assert check_dataset(folder).verdict == "clean"
        assert state(folder) == before
    finally:
        folder.chmod(0o755)


def test_an_annotation_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read anything")
    folder = charlotte(tmp_path / "data")
    (folder / "a.xml").chmod(0)
    assert "a.xml: cannot be read (Permission denied)" in lines(check_dataset(folder))


def test_the_real_cards_are_clean(cards_dir: Path) -> None:
    check = check_dataset(cards_dir)
    assert check.verdict == "clean", lines(check)
    assert [(s.images, s.objects) for s in check.splits] == [(296, 527), (67, 143)]


def test_the_progress_counts_every_image_of_both_splits(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    check_dataset(cards(tmp_path), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(n, 6) for n in range(1, 7)]
