from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.dataset import Annotation
from data.reading.box_parsing import COORDINATES, Box, make_box, parse_box
from data.reading.folder import Folder
from data.reading.image_lookup import ImageIndex
from data.reading.voc_xml import match_images, read_voc_xml
from data.remarks import Remarks
from tests.data_sets import ACE, KING, draw_image, write_text, xml_text
from utils.errors import UserError


def read(
    tmp_path: Path, text: str | bytes, origin: int = 0, remarks: Remarks | None = None
) -> Annotation:
    """What one file gives its image. Raises UserError for what training refuses."""
    path = tmp_path / "a.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    remarks = remarks or Remarks()
    file = read_voc_xml(path, remarks, origin=origin)
    remarks.refuse("", skip_bad_images=False)
    return file.objects.annotation(tmp_path / "a.jpg")


def box_of(
    *values: object, size: tuple[int, int] | None = None, origin: int = 0
) -> tuple[Box | None, tuple[str, ...]]:
    """The box of xmin, ymin, xmax, ymax, and the remarks; of texts and of numbers alike."""
    texts = (None if value is None else str(value) for value in values)
    raw = dict(zip(COORDINATES, texts, strict=True))
    remarks, where = Remarks(), "a.xml, object 1 'ace'"
    box = parse_box(raw, where, remarks, size=size, origin=origin)
    numbers = [float(value) for value in values]  # type: ignore[arg-type]
    assert make_box(numbers, where, Remarks(), size=size, origin=origin) == box
    return box, remarks.lines()


def test_boxes_names_flags_and_size_come_back_together(tmp_path: Path) -> None:
    record = read(tmp_path, xml_text([ACE, KING], difficult=[0, 1]))
    assert record.boxes.dtype == np.float32
    assert record.boxes.tolist() == [list(ACE[1:]), list(KING[1:])]
    assert record.names == ("ace", "king")
    assert record.difficult.tolist() == [False, True]
    assert record.size == (64, 48) and record.source == str(tmp_path / "a.xml")
    assert read_voc_xml(tmp_path / "a.xml", Remarks()).filename == "a.jpg"


def test_coordinates_are_read_by_tag_whatever_their_order_and_keep_decimals(
    tmp_path: Path,
) -> None:
    box = "<ymax>44.25</ymax><xmin> 1.5 </xmin><xmax>60</xmax><ymin>2</ymin>"
    text = f"<annotation><object><name>ace</name><bndbox>{box}</bndbox></object></annotation>"
    assert read(tmp_path, text).boxes.tolist() == [[1.5, 2.0, 60.0, 44.25]]


def test_parts_of_an_object_are_not_objects(tmp_path: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    record = read(tmp_path, xml_text([ACE]).replace("</object>", f"{part}</object>"))
    assert record.names == ("ace",)


@pytest.mark.parametrize(
    ("corners", "origin", "box"),
    [
        ((0, 0, 10, 10), 1, (0, 0, 10, 10)),  # counted from zero although it is VOC
        ((5, 5, 5, 5), 1, (4, 4, 5, 5)),
        ((-50, -3, 70, 50), 0, (-50, -3, 70, 50)),
        ((-50, -3, 70, 50), 1, (-51, -4, 70, 50)),
        ((-5, 1, 0, 9), 0, (-5, 1, 0, 9)),
        ((5, 5, 5, 20), 0, None),
        ((100.0000001, 5, 100.0000002, 20), 0, None),  # the same as float32
        ((0, 1, 0, 9), 0, None),
        ((0, 1, 0, 9), 1, None),
    ],
)
def test_a_box_without_area_is_dropped_and_counted_and_one_over_the_edge_left_as_it_is(
    corners: tuple[float, ...], origin: int, box: Box | None
) -> None:
    read, lines = box_of(*corners, size=(64, 48), origin=origin)
    dropped = ("boxes without area, dropped: 1 (e.g. a.xml, object 1 'ace')",)
    assert read == box and lines == (() if box else dropped)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_the_declared_encoding_counts(tmp_path: Path, encoding: str) -> None:
    declared = encoding.removesuffix("-sig")
    text = f'<?xml version="1.0" encoding="{declared}"?>' + xml_text([("dáma", 1, 1, 9, 9)])
    assert read(tmp_path, text.encode(encoding)).names == ("dáma",)


BOMB = '<!DOCTYPE a [<!ENTITY e "ace">]>' + xml_text([ACE]).replace(">ace<", ">&e;<")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "not readable as XML"),
        (b"<annotation><object>", "not readable as XML"),
        (b"\xff\xd8\xff", "not readable as XML"),
        (b'<?xml version="1.0" encoding="x"?><a/>', "not readable as XML"),
        (BOMB, "entities"),
        ("<project/>", "<project>; expected <annotation>"),
        (xml_text([ACE, (" ", 1, 1, 2, 2)]), "object 2 ''"),
        (
            "<annotation><object><name>ace</name></object></annotation>",
            "object 1 'ace': the object has no <bndbox>",
        ),
        (
            xml_text([ACE, ("king", 40, 10, 30, 44)]),
            "object 2 'king': inverted corners (xmin 40, ymin 10, xmax 30, ymax 44)",
        ),
    ],
)
def test_what_is_wrong_is_a_user_error_with_file_and_object(
    text: str | bytes, problem: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert problem in message and "\n" not in message and "a.xml" in message


def test_the_likely_cause_of_inverted_corners_is_named() -> None:
    both = "width and height"
    with pytest.raises(UserError, match=both):
        box_of(40, 10, 20, 30, size=(64, 48))
    with pytest.raises(UserError, match="swapped") as caught:
        box_of(60, 10, 20, 30, size=(64, 48))
    assert both not in str(caught.value)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e39", "", None, "ten", "1,5", "1_0"])
def test_a_missing_or_non_finite_coordinate_is_an_error_that_names_it(value: str | None) -> None:
    with pytest.raises(UserError, match="object 1 'ace': xmax is"):
        box_of(1, 1, value, 9)


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), 2.0**24, 2**24])
def test_a_number_that_is_no_pixel_is_shown_as_it_is_written(value: float) -> None:
    with pytest.raises(UserError, match=f"ymin is '{value!r}'; expected a finite number"):
        make_box([1, value, 5, 9], "a.json", Remarks())


@pytest.mark.parametrize("size", [(0, 0), ("", ""), ("x", 48)])
def test_a_size_without_meaning_is_no_size(tmp_path: Path, size: tuple) -> None:
    record = read(tmp_path, xml_text([ACE], size=size))
    assert record.size is None and len(record.boxes) == 1


def test_an_object_that_is_there_twice_is_kept_once_and_counted(tmp_path: Path) -> None:
    twice, remarks = [ACE, KING, ACE, ("king", *ACE[1:]), ACE], Remarks()
    record = read(tmp_path, xml_text(twice, difficult=[1, 0, 0, 1]), remarks=remarks)
    assert record.names == ("ace", "king", "king") and record.boxes.shape == (3, 4)
    assert record.difficult.tolist() == [True, False, True]
    place = f"{tmp_path}/a.xml, object 3 'ace'"
    assert remarks.lines() == (f"duplicate objects, removed: 2 (e.g. {place})",)


def matched(tmp_path: Path, remarks: Remarks | None = None) -> dict[str, str]:
    """The image of each XML file of a folder."""
    folder, remarks = Folder(tmp_path), remarks or Remarks()
    files = [read_voc_xml(p, remarks) for p in folder.xml_files]
    records = match_images(files, ImageIndex([folder]), remarks)
    return {Path(r.source).name: r.image_path.name for r in records}


@pytest.mark.parametrize(
    ("images", "stated", "expected"),
    [
        # The stem of the file counts more than the name it states, which decides between two.
        (["a.JPG", "b.png"], {"a": "b.png", "b": "b.png"}, {"a.xml": "a.JPG", "b.xml": "b.png"}),
        (["a.jpg", "a.png"], {"a": "a.png"}, {"a.xml": "a.png"}),
        # The name counts without path, case and extension.
        (["photo.png"], {"b": "C:\\x\\Photo.JPG"}, {"b.xml": "photo.png"}),
        (["photo.png"], {"b": "/home/me/photo.jpg"}, {"b.xml": "photo.png"}),
        (["photo.png"], {"b": "PHOTO"}, {"b.xml": "photo.png"}),
        # Composed, and decomposed as in macOS.
        (["de\u0301ja\u0300.jpg"], {"b": "d\u00e9j\u00e0.jpg"}, {"b.xml": "de\u0301ja\u0300.jpg"}),
    ],
)
def test_an_image_is_matched_by_the_stem_of_the_file_and_the_name_it_states(
    tmp_path: Path, images: list[str], stated: dict[str, str], expected: dict[str, str]
) -> None:
    for name in images:
        draw_image(tmp_path / name)
    for stem, name in stated.items():
        write_text(tmp_path / f"{stem}.xml", xml_text([ACE], name))
    assert matched(tmp_path) == expected


def test_an_image_is_not_given_to_two_files(tmp_path: Path) -> None:
    draw_image(tmp_path / "a.jpg")
    write_text(tmp_path / "a.xml", xml_text([ACE], "a.jpg"))
    write_text(tmp_path / "b.xml", xml_text([KING], "a.jpg"))
    remarks = Remarks()
    assert matched(tmp_path, remarks) == {"a.xml": "a.jpg"}
    assert remarks.lines() == (
        f"annotation file(s) without their image: 1 ({tmp_path}/b.xml (image a.jpg))",
    )
