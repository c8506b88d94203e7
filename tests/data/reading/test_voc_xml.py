from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.reading.box_parsing import COORDINATES, Box, parse_box
from data.reading.folder import Folder, ImageIndex
from data.reading.voc_xml import VocXml, match_images, read_voc_xml
from data.remarks import Notes
from tests.data_sets import ACE, KING, draw_image, write_text, xml_text
from utils.errors import UserError


def read(tmp_path: Path, text: str | bytes, origin: int = 0) -> VocXml:
    path = tmp_path / "a.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_voc_xml(path, Notes(), origin=origin)


def error(tmp_path: Path, text: str | bytes) -> str:
    with pytest.raises(UserError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert "\n" not in message and "a.xml" in message
    return message


def box_of(
    *values: object, size: tuple[int, int] | None = None, origin: int = 0
) -> tuple[Box | None, tuple[str, ...]]:
    """The box of xmin, ymin, xmax, ymax, and what was noted."""
    texts = (None if value is None else str(value) for value in values)
    raw = dict(zip(COORDINATES, texts, strict=True))
    notes = Notes()
    box = parse_box(raw, "a.xml, object 1 'ace'", notes, size=size, origin=origin)
    return box, notes.lines()


def test_boxes_names_flags_and_size_come_back_together(tmp_path: Path) -> None:
    file = read(tmp_path, xml_text([ACE, KING], difficult=[0, 1]))
    assert file.boxes.dtype == np.float32
    assert file.boxes.tolist() == [list(ACE[1:]), list(KING[1:])]
    assert file.names == ("ace", "king")
    assert file.difficult.tolist() == [False, True]
    assert file.size == (64, 48)
    assert file.filename == "a.jpg"


def test_a_file_without_objects_has_boxes_of_shape_0_4(tmp_path: Path) -> None:
    file = read(tmp_path, xml_text([]))
    assert file.boxes.shape == (0, 4) and file.difficult.shape == (0,)


def test_coordinates_are_read_by_tag_whatever_their_order_and_keep_decimals(
    tmp_path: Path,
) -> None:
    box = "<ymax>44.25</ymax><xmin> 1.5 </xmin><xmax>60</xmax><ymin>2</ymin>"
    text = f"<annotation><object><name>ace</name><bndbox>{box}</bndbox></object></annotation>"
    assert read(tmp_path, text).boxes.tolist() == [[1.5, 2.0, 60.0, 44.25]]


def test_parts_of_an_object_are_not_objects(tmp_path: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    file = read(tmp_path, xml_text([ACE]).replace("</object>", f"{part}</object>"))
    assert file.names == ("ace",)


def test_voc_counts_pixels_from_one_and_the_whole_image_is_the_whole_box(tmp_path: Path) -> None:
    whole = xml_text([("ace", 1, 1, 64, 48)])
    assert read(tmp_path, whole, origin=1).boxes.tolist() == [[0, 0, 64, 48]]
    assert read(tmp_path, whole, origin=0).boxes.tolist() == [[1, 1, 64, 48]]


def test_a_voc_box_that_counts_from_zero_is_clamped_and_one_pixel_has_area() -> None:
    assert box_of(0, 0, 10, 10, origin=1) == ((0, 0, 10, 10), ())
    assert box_of(5, 5, 5, 5, origin=1) == ((4, 4, 5, 5), ())


@pytest.mark.parametrize("origin", [0, 1])
def test_a_box_over_the_left_or_top_edge_is_left_to_the_look_at_the_picture(origin: int) -> None:
    box, lines = box_of(-50, -3, 10, 10, origin=origin)
    assert box == (-50 - origin, -3 - origin, 10, 10) and lines == ()
    assert box_of(-5, 1, 0, 9, origin=origin)[0] is not None
    box, (line,) = box_of(0, 1, 0, 9, origin=origin)
    assert box is None and "boxes without area, dropped: 1" in line


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_the_declared_encoding_counts(tmp_path: Path, encoding: str) -> None:
    declared = encoding.removesuffix("-sig")
    text = f'<?xml version="1.0" encoding="{declared}"?>' + xml_text([("dáma", 1, 1, 9, 9)])
    assert read(tmp_path, text.encode(encoding)).names == ("dáma",)


@pytest.mark.parametrize(
    "text",
    [b"", b"<annotation><object>", b"\xff\xd8\xff", b'<?xml version="1.0" encoding="x"?><a/>'],
)
def test_a_file_that_is_not_xml_is_a_user_error_that_names_it(tmp_path: Path, text: bytes) -> None:
    assert "not readable as XML" in error(tmp_path, text)


def test_entities_are_refused(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE a [<!ENTITY e "ace">]>' + xml_text([ACE]).replace(">ace<", ">&e;<")
    assert "entities" in error(tmp_path, bomb)


def test_another_xml_file_is_not_taken_for_an_annotation(tmp_path: Path) -> None:
    assert "<project>; expected <annotation>" in error(tmp_path, "<project/>")


def test_an_object_without_name_or_box_is_named_by_its_number(tmp_path: Path) -> None:
    assert "object 2 ''" in error(tmp_path, xml_text([ACE, (" ", 1, 1, 2, 2)]))
    nameless_box = "<annotation><object><name>ace</name></object></annotation>"
    assert "object 1 'ace': the object has no <bndbox>" in error(tmp_path, nameless_box)


def test_inverted_corners_are_an_error_with_object_name_and_coordinates(tmp_path: Path) -> None:
    message = error(tmp_path, xml_text([ACE, ("king", 40, 10, 30, 44)]))
    assert "object 2 'king'" in message and "xmin 40, ymin 10, xmax 30, ymax 44" in message


def test_the_likely_cause_of_inverted_corners_is_said() -> None:
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


def test_a_box_without_area_is_dropped_and_counted() -> None:
    box, lines = box_of(5, 5, 5, 20)
    assert box is None and lines == ("boxes without area, dropped: 1 (e.g. a.xml, object 1 'ace')",)
    # Distinct as written, the same as float32.
    assert box_of(100.0000001, 5, 100.0000002, 20)[0] is None


def test_a_box_over_the_edge_is_kept_as_it_is() -> None:
    assert box_of(-2, -3, 70, 50, size=(64, 48)) == ((-2, -3, 70, 50), ())


@pytest.mark.parametrize("size", [(0, 0), ("", ""), ("x", 48)])
def test_a_size_that_says_nothing_is_no_size(tmp_path: Path, size: tuple) -> None:
    file = read(tmp_path, xml_text([ACE], size=size))
    assert file.size is None and len(file.boxes) == 1


def test_an_object_that_is_there_twice_is_kept_once_and_counted(tmp_path: Path) -> None:
    twice = [ACE, KING, ACE, ("king", *ACE[1:]), ACE]
    path = write_text(tmp_path / "a.xml", xml_text(twice, difficult=[1, 0, 0, 1]))
    notes = Notes()
    file = read_voc_xml(path, notes)
    assert file.names == ("ace", "king", "king") and file.boxes.shape == (3, 4)
    assert file.difficult.tolist() == [True, False, True]
    assert notes.lines() == (f"duplicate objects, removed: 2 (e.g. {path}, object 3 'ace')",)


def matched(tmp_path: Path) -> dict[str, str]:
    folder = Folder(tmp_path)
    files = [read_voc_xml(p, Notes()) for p in folder.xml_files]
    records = match_images(files, ImageIndex([folder]), Notes())
    return {Path(r.source).name: r.image_path.name for r in records}


def test_the_stem_of_the_file_counts_more_than_the_name_it_states(tmp_path: Path) -> None:
    for name in ("a.JPG", "b.png"):
        draw_image(tmp_path / name)
    write_text(tmp_path / "a.xml", xml_text([ACE], "b.png"))
    write_text(tmp_path / "b.xml", xml_text([ACE], "b.png"))
    assert matched(tmp_path) == {"a.xml": "a.JPG", "b.xml": "b.png"}


@pytest.mark.parametrize("stated", ["C:\\x\\Photo.JPG", "/home/me/photo.jpg", "PHOTO", "photo.bmp"])
def test_the_stated_name_finds_an_image_without_path_case_and_extension(
    tmp_path: Path, stated: str
) -> None:
    draw_image(tmp_path / "photo.png")
    write_text(tmp_path / "renamed.xml", xml_text([ACE], stated))
    assert matched(tmp_path) == {"renamed.xml": "photo.png"}


def test_of_two_images_with_the_stem_the_stated_one_is_taken(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png"):
        draw_image(tmp_path / name)
    write_text(tmp_path / "a.xml", xml_text([ACE], "a.png"))
    assert matched(tmp_path) == {"a.xml": "a.png"}


def test_a_composed_name_finds_the_decomposed_one_of_macos(tmp_path: Path) -> None:
    draw_image(tmp_path / "de\u0301ja\u0300.jpg")
    write_text(tmp_path / "x.xml", xml_text([ACE], "d\u00e9j\u00e0.jpg"))
    assert list(matched(tmp_path)) == ["x.xml"]


def test_an_image_is_not_given_to_two_files(tmp_path: Path) -> None:
    draw_image(tmp_path / "a.jpg")
    write_text(tmp_path / "a.xml", xml_text([ACE], "a.jpg"))
    write_text(tmp_path / "b.xml", xml_text([KING], "a.jpg"))
    folder, notes = Folder(tmp_path), Notes()
    files = [read_voc_xml(p, notes) for p in folder.xml_files]
    assert [a.source for a in match_images(files, ImageIndex([folder]), notes)] == [
        str(tmp_path / "a.xml")
    ]
    assert notes.lines() == (
        f"annotation file(s) without their image: 1 ({tmp_path}/b.xml (image a.jpg))",
    )
