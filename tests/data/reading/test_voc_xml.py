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


def error(tmp_path: Path, text: str | bytes) -> str:
    with pytest.raises(UserError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert "\n" not in message and "a.xml" in message
    return message


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


def test_a_file_without_objects_has_boxes_of_shape_0_4(tmp_path: Path) -> None:
    record = read(tmp_path, xml_text([]))
    assert record.boxes.shape == (0, 4) and record.difficult.shape == (0,)
    assert record.boxes.dtype == np.float32 and record.difficult.dtype == bool


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


def test_voc_counts_pixels_from_one_and_the_whole_image_is_the_whole_box(tmp_path: Path) -> None:
    whole = xml_text([("ace", 1, 1, 64, 48)])
    assert read(tmp_path, whole, origin=1).boxes.tolist() == [[0, 0, 64, 48]]
    assert read(tmp_path, whole, origin=0).boxes.tolist() == [[1, 1, 64, 48]]


def test_a_voc_box_that_counts_from_zero_is_clamped_and_one_pixel_has_area() -> None:
    assert box_of(0, 0, 10, 10, origin=1) == ((0, 0, 10, 10), ())
    assert box_of(5, 5, 5, 5, origin=1) == ((4, 4, 5, 5), ())


@pytest.mark.parametrize("origin", [0, 1])
def test_a_box_over_the_left_or_top_edge_is_left_to_the_check_of_boxes(origin: int) -> None:
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
    assert problem in error(tmp_path, text)


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


def test_a_box_without_area_is_dropped_and_counted() -> None:
    box, lines = box_of(5, 5, 5, 20)
    assert box is None and lines == ("boxes without area, dropped: 1 (e.g. a.xml, object 1 'ace')",)
    # Distinct as written, the same as float32.
    assert box_of(100.0000001, 5, 100.0000002, 20)[0] is None


def test_a_box_over_the_edge_is_kept_as_it_is() -> None:
    assert box_of(-2, -3, 70, 50, size=(64, 48)) == ((-2, -3, 70, 50), ())


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


def test_the_stem_of_the_file_counts_more_than_the_name_it_states(tmp_path: Path) -> None:
    for name in ("a.JPG", "b.png"):
        draw_image(tmp_path / name)
    write_text(tmp_path / "a.xml", xml_text([ACE], "b.png"))
    write_text(tmp_path / "b.xml", xml_text([ACE], "b.png"))
    assert matched(tmp_path) == {"a.xml": "a.JPG", "b.xml": "b.png"}


@pytest.mark.parametrize(
    ("stated", "image"),
    [
        ("C:\\x\\Photo.JPG", "photo.png"),
        ("/home/me/photo.jpg", "photo.png"),
        ("PHOTO", "photo.png"),
        ("photo.bmp", "photo.png"),
        ("d\u00e9j\u00e0.jpg", "de\u0301ja\u0300.jpg"),  # composed, and decomposed as in macOS
    ],
)
def test_the_stated_name_is_matched_without_path_case_extension_and_composition(
    tmp_path: Path, stated: str, image: str
) -> None:
    draw_image(tmp_path / image)
    write_text(tmp_path / "renamed.xml", xml_text([ACE], stated))
    assert matched(tmp_path) == {"renamed.xml": image}


def test_of_two_images_with_the_stem_the_stated_one_is_taken(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png"):
        draw_image(tmp_path / name)
    write_text(tmp_path / "a.xml", xml_text([ACE], "a.png"))
    assert matched(tmp_path) == {"a.xml": "a.png"}


def test_an_image_is_not_given_to_two_files(tmp_path: Path) -> None:
    draw_image(tmp_path / "a.jpg")
    write_text(tmp_path / "a.xml", xml_text([ACE], "a.jpg"))
    write_text(tmp_path / "b.xml", xml_text([KING], "a.jpg"))
    remarks = Remarks()
    assert matched(tmp_path, remarks) == {"a.xml": "a.jpg"}
    assert remarks.lines() == (
        f"annotation file(s) without their image: 1 ({tmp_path}/b.xml (image a.jpg))",
    )
