"""Every way in which data sets are known to be wrong, and some in which they only look wrong."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from tests.data.checking.sound_sets import (
    NAMES,
    Change,
    added,
    all_of,
    cards,
    charlotte,
    coco,
    coco_rows,
    copied,
    cut,
    edited,
    lines_of,
    moved,
    objects,
    picture,
    raw,
    rotated,
    voc,
    without,
)
from tests.data_sets import ACE, KING, csv_text, xml_text


class Case:
    """What is done to a sound data set, and texts that are expected in the lines of the check."""

    def __init__(self, name: str, verdict: str, base: Change, change: Change, *texts: str) -> None:
        self.name, self.verdict, self.base, self.change = name, verdict, base, change
        self.texts = texts


CLEAN, PROBLEMS, UNUSABLE = "clean", "problems", "unusable"
ALL = "".join(NAMES)
TRAIN_CSV, TEST_CSV, JSON = "train_labels.csv", "test_labels.csv", "annotations.json"
SMALL_KING = ("king", 2, 2, 20, 20)
PLATES = (("plate 2", 2, 2, 20, 20), ("plate 2", 30, 2, 50, 20))
DAMA = xml_text([("d\u00e1ma", 1, 1, 9, 9)])
SIZE_TAG = "<size><width>64</width><height>48</height><depth>3</depth></size>"
CORNERLESS = [f"train/{n}.jpg,4,6,20,30,{k}\n" for n in NAMES[:4] for k in ("ace", "king")]
OTHER_COLUMNS = [f"{k},20,30,4,6,{n}.jpg,x\n" for n in NAMES[:4] for k in ("ace", "king")]


def bomb(folder: Path) -> None:
    """A header of 60,000 pixels a side."""
    (folder / "a.jpg").unlink()
    content = bytearray(picture(folder / "a.png", 1).read_bytes())
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    (folder / "a.png").write_bytes(content)


def every_mode(folder: Path) -> None:
    for name, mode in zip(NAMES, ("L", "LA", "RGBA", "P", "I;16", "CMYK"), strict=True):
        with Image.open(folder / f"{name}.jpg") as image:
            wide = np.asarray(image.convert("L")).astype(np.uint16) * 257
            changed = Image.fromarray(wide) if mode == "I;16" else image.convert(mode)
        (folder / f"{name}.jpg").unlink()
        changed.save(folder / f"{name}.{'tif' if mode == 'CMYK' else 'png'}")


def saved_again(folder: Path) -> None:
    with Image.open(folder / "train" / "b.jpg") as image:
        image.resize((96, 72)).save(folder / "test" / "e.jpg", quality=60)


def as_png(folder: Path) -> None:
    with Image.open(folder / "a.jpg") as image:
        image.save(folder / "a.jpg", format="PNG")


INVERTED = all_of(objects(ACE, ("king", 60, 10, 30, 44)), objects(("ace", 4, 30, 20, 6), of="b"))
SLIGHTLY_OUTSIDE = objects(("ace", -3, 2, 40, 30))
DAMAGED = all_of(
    cut("a.jpg"),
    raw("b.jpg", b""),
    raw("c.jpg", "<html>404</html>"),
    without("d.jpg"),
    added("d.png"),
    cut("d.png"),
)

# fmt: off
BOXES = [
    Case("inverted corners", UNUSABLE, charlotte, INVERTED, "a.xml, object 2 'king': inverted",
         "b.xml, object 1 'ace': inverted corners", "probably the corners are swapped"),
    Case("width and height in xmax and ymax", UNUSABLE, charlotte,
         objects(ACE, ("king", 40, 20, 20, 10)), "xmax and ymax hold the box's width and height"),
    Case("boxes without area", PROBLEMS, charlotte,
         objects(ACE, ("king", 9, 9, 9, 20), ("king", 9, 9, 20, 9)),
         "boxes without area, dropped: 2", "a.xml, object 2 'king'"),
    Case("slightly outside", PROBLEMS, charlotte, SLIGHTLY_OUTSIDE,
         "reach over the edge of their image, clipped: 1", "a.jpg, 'ace' (-3, 2, 40, 30)"),
    Case("outside by the rounding of a pixel", CLEAN, charlotte,
         objects(("ace", -0.6, 2, 40, 30)), "by a pixel at most, clipped: 1 (e.g."),
    Case("mostly outside", PROBLEMS, charlotte, objects(("ace", 40, 10, 200, 20), KING),
         "mostly outside of their image, dropped: 1", "'ace' (40, 10, 200, 20)"),
    Case("entirely outside", PROBLEMS, charlotte, objects(("ace", 70, 10, 90, 20), KING),
         "entirely outside of their image, dropped: 1", "'ace' (70, 10, 90, 20)"),
    Case("all boxes outside", UNUSABLE, charlotte, objects(("ace", 70, 10, 90, 20), of=ALL),
         "no object of the training split lies inside its image"),
    Case("a box thinner than a pixel", PROBLEMS, charlotte, objects(("ace", 4, 6, 4.5, 20), KING),
         "boxes less than a pixel wide or high: 1", "a.jpg, 'ace' (4, 6, 4.5, 20)"),
    Case("shares of the image instead of pixels", UNUSABLE, charlotte,
         objects(("ace", 0.25, 0.5, 0.75, 1), of=ALL),
         "6 of 6 boxes have all coordinates between 0 and 1", "expected pixels"),
    Case("several faults in one XML", UNUSABLE, charlotte,
         objects(("ace", 9, 1, 5, 9), KING, ("king", 9, 1, 5, 9), (" ", 1, 1, 9, 9)),
         "object 1 'ace': inverted", "object 3 'king': inverted", "object 4 ''"),
    Case("several faults in one table", UNUSABLE, cards,
         all_of(edited(TRAIN_CSV, "a.jpg,64,48,ace,4", "a.jpg,64,48,ace,40"),
                edited(TRAIN_CSV, "b.jpg,64,48,ace,4,6,20", "b.jpg,64,48,ace,4,6,x")),
         "line 2, 'ace': inverted", "line 4, 'ace': xmax is 'x'"),
    Case("several faults in one COCO file", UNUSABLE, coco,
         coco_rows({"image_id": 99}, {"category_id": 9}),
         "annotation 0: image_id 99", "annotation 1: category_id 9"),
    Case("coordinates that are no numbers", UNUSABLE, charlotte,
         all_of(objects(("ace", float("nan"), 1, 9, 9)), edited("b.xml", "<ymax>30</ymax>", "")),
         "xmin is 'nan'", "ymax is missing"),
    Case("duplicate objects", PROBLEMS, charlotte, objects(ACE, KING, ACE),
         "duplicate objects, removed: 1", "a.xml, object 3 'ace'"),
    Case("VOC boxes over the left edge", PROBLEMS, voc,
         raw("Annotations/a.xml", xml_text([ACE, ("cat", -50, 5, 10, 20), ("cat", 0, 0, 9, 9)])),
         "mostly outside of their image, dropped: 1", "'cat' (-51, 4, 10, 20)"),
    Case("duplicate rows", PROBLEMS, cards,
         lines_of(TRAIN_CSV, lambda lines: [*lines[:2], *lines[1:]]),
         "duplicate rows, removed: 1", "line 3"),
    Case("COCO that lacks an image and a corner", UNUSABLE, coco,
         all_of(without("images/a.jpg"), coco_rows({"image_id": 17, "bbox": [1, 2]})),
         "image 7, 'a.jpg'", "annotation 0: bbox is [1, 2]; expected"),
    Case("no objects at all", UNUSABLE, charlotte, objects(of=ALL),
         "without any object; expected images with annotated objects"),
]
SIZES = [
    Case("a size unlike the image's", PROBLEMS, charlotte, objects(ACE, size=(60, 40)),
         "another size than their image's; the image counts: 1", "60x40", "is 64x48"),
    Case("a size of zero", CLEAN, charlotte,
         all_of(objects(ACE, size=(0, 0)), edited("b.xml", SIZE_TAG, ""),
                objects(of="c", size=(0, 0))),  # no box depends on the last
         "state no size of their image, or 0; the image's own is used: 2", "b.xml"),
    Case("width and height exchanged", PROBLEMS, charlotte, objects(ACE, size=(48, 64)),
         "a.xml states 48x64", "width and height exchanged"),
    Case("an image resized after it was labelled", UNUSABLE, charlotte,
         objects(("ace", 400, 300, 600, 400), size=(640, 480)),
         "boxes for an image of 640x480", "was it resized after it was labelled?"),
    Case("EXIF that explains the size", CLEAN, charlotte,
         all_of(rotated("a.jpg", 6, (48, 64)), rotated("b.jpg", 8, (64, 48)))),  # b as stored
    Case("EXIF of COCO without sizes", PROBLEMS, coco, rotated("images/a.jpg", 8, (48, 64)),
         "states no size that could tell", ": 1 (e.g. "),
]
IMAGES = [
    Case("names in other spellings", CLEAN, charlotte,
         all_of(moved("a.jpg", "A.JPG"), raw("b.xml", xml_text([ACE], "C:\\photos\\b.png")),
                raw("c.xml", xml_text([ACE], "/home/me/c.jpeg")))),
    Case("paths of other machines in a table", CLEAN, cards,
         all_of(edited(TRAIN_CSV, "a.jpg", "D:\\cards\\train\\a.JPEG"),
                edited(TRAIN_CSV, "b.jpg", "/mnt/cards/b.png"))),
    Case("content of another format than the extension's", CLEAN, charlotte, as_png),
    Case("missing images", UNUSABLE, charlotte, without("a.jpg", "b.jpg"),
         "annotation file(s) without their image: 2", "a.xml (image a.jpg)", "b.xml"),
    Case("images missing from a table", UNUSABLE, cards, without("train/a.jpg", "train/b.jpg"),
         "image(s) not found in", "line 2, 'a.jpg'", "line 4, 'b.jpg'"),
    Case("damaged images", UNUSABLE, charlotte, DAMAGED, "image(s) that cannot be read: 4",
         "a.jpg: the image cannot be read (image file is truncated", "b.jpg: the file is empty",
         "c.jpg: not an image in any format that is read", "d.png: the image cannot be read"),
    Case("a decompression bomb", UNUSABLE, charlotte,
         all_of(bomb, edited("a.xml", "64</width>", "60000</width>")),
         "a.png: larger than", "decompression bombs (--max-megapixels"),
    Case("every mode of pixels", CLEAN, charlotte, every_mode),
    Case("the same image in both splits", PROBLEMS, cards, copied("train/b.jpg", "test/e.jpg"),
         "validation images that are training images too: 1", "e.jpg is"),
    Case("an image saved again in the other split", PROBLEMS, cards,
         all_of(saved_again, edited(TEST_CSV, "e.jpg,64,48", "e.jpg,96,72")),
         "nearly are training images: 1", "looks like"),
    Case("one file in both tables", PROBLEMS, cards,
         all_of(without("test/e.jpg"), moved("train/a.jpg", "a.jpg"),
                edited(TEST_CSV, "e.jpg", "a.jpg")), "in training and in validation", "a.jpg"),
    Case("an image twice in training", CLEAN, cards, copied("train/b.jpg", "train/a.jpg"),
         "in the training split twice: 1"),
    Case("an image that no row mentions", PROBLEMS, cards, added("train/stray.jpg"),
         "images that no CSV row names, not used: 1", "stray.jpg"),
    Case("an image of a list without XML", UNUSABLE, voc, without("Annotations/f.xml"),
         "(restore the files or remove the names): 1 (f)"),
    Case("VOC images without XML or list", PROBLEMS, voc,
         all_of(without("ImageSets/Main/*"), added("JPEGImages/z.jpg")),
         "images without an XML file, not used: 1"),
    Case("COCO images without names", UNUSABLE, coco,
         all_of(edited(JSON, '"a.jpg"', "3"), edited(JSON, '"b.jpg"', '""')),
         "image 7: file_name is 3", "image 17: file_name is ''"),
    Case("an image in a format that is not read", UNUSABLE, cards,
         all_of(without("train/a.jpg"), raw("train/a.heic", b"\0\0\0\x18ftypheic" * 9),
                edited(TRAIN_CSV, "a.jpg", "a.heic")),
         "a.heic: not an image in any format that is read"),
    Case("an image without XML", CLEAN, charlotte, added("z.jpg"),
         "images without an XML file, taken as images without objects: 1"),
    Case("both forms of an image without objects", CLEAN, cards,
         all_of(edited(TRAIN_CSV, csv_text({"a.jpg": [ACE, KING]}).split("\n", 1)[1], ""),
                lines_of(TRAIN_CSV, lambda lines: [*lines, b"a.jpg,,,,,,,\n"]))),
]
CLASSES = [
    Case("a class that training does not have", UNUSABLE, cards,
         edited(TEST_CSV, "king", "knig", 1), "classes not in the list ace, king",
         "'knig' in 1 object(s)", "did you mean 'king'?"),
    Case("a class misspelt once", PROBLEMS, charlotte,
         all_of(objects(KING, SMALL_KING, of=ALL), objects(KING, ("knig", 2, 2, 20, 20))),
         "misspelt: 'knig' in 1 object(s); did you mean 'king', which 11 have?"),
    Case("rare classes that differ by a number", CLEAN, charlotte,
         all_of(objects(*PLATES, of=ALL), objects(*PLATES, ("plate 1", 5, 20, 20, 40)))),
    Case("classes.txt that lacks a class", PROBLEMS, charlotte,
         raw("classes.txt", "\ufefface\n\n"), "classes added to those of", "'king' in 6 object(s)"),
    Case("classes.txt of another data set", PROBLEMS, charlotte,
         raw("classes.txt", "dog\nperson\n"),
         "is not used: none of its names (dog, person) occurs"),
    Case("classes.txt with byte order mark and blank lines", CLEAN, charlotte,
         raw("classes.txt", b"\xef\xbb\xbface\r\nking\r\n\r\n")),
    Case("classes that differ in capitals", PROBLEMS, charlotte,
         all_of(*(edited(f"{name}.xml", "<name>ace", "<name>Ace") for name in "ab")),
         "classes that differ only in capitals", "Ace / ace"),
    Case("a class that only VOC's validation has", PROBLEMS, voc,
         edited("Annotations/e.xml", "<name>ace", "<name>queen"),
         "classes that only the validation split has, never trained: 'queen'"),
    Case("one class only", CLEAN, charlotte, objects(ACE, of=ALL), "one class only"),
]
FILES = [
    Case("XML that is none", UNUSABLE, charlotte,
         all_of(raw("a.xml", b"\xff\xfe\xff"), raw("b.xml", "<project/>"),
                raw("c.xml", DAMA.encode("latin-1"))),
         "a.xml: not readable as XML", "b.xml: the root element is <project>", "c.xml"),
    Case("an entity bomb", UNUSABLE, charlotte,
         raw("a.xml", '<!DOCTYPE a [<!ENTITY e "ace">]>' + xml_text([ACE])),
         "the XML declares entities"),
    Case("files that macOS leaves", CLEAN, charlotte,
         all_of(*(raw(n, b"\0\5\x16\7") for n in ("._a.xml", "._a.jpg", ".DS_Store")))),
    Case("a table without header", PROBLEMS, cards, lines_of(TRAIN_CSV, lambda lines: lines[1:]),
         "no header; the columns are taken as filename,width,height,class"),
    Case("a table of another tool without header", PROBLEMS, cards,
         raw(TRAIN_CSV, "".join(CORNERLESS)),
         "the columns are taken as filename,xmin,ymin,xmax,ymax,class"),
    Case("a table with other columns first", CLEAN, cards,
         raw(TRAIN_CSV, "class,xmax,ymax,xmin,ymin,filename,comment\n"
             + "".join(OTHER_COLUMNS) + "\n")),
    Case("a table with other names of columns", UNUSABLE, cards,
         edited(TRAIN_CSV, "class,xmin", "label,x1"), "no column class, xmin"),
    Case("an empty folder", UNUSABLE, charlotte, without("*"), "the folder is empty"),
    Case("images without annotations", UNUSABLE, charlotte, without("*.xml"),
         "no data set recognised; found 6 images"),
]
# fmt: on
CASES = [*BOXES, *SIZES, *IMAGES, *CLASSES, *FILES]
