"""Records held against their pictures: rows of boxes, names and flags stay together."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from data.checking.box_checks import inspect
from data.dataset import Annotation
from data.image_files.read import probe, read_image
from data.remarks import Remarks
from tests.data_sets import SIZE, draw_image


def record(path: Path, *boxes: tuple[float, ...], crowd: list[bool] | None = None) -> Annotation:
    return Annotation(
        image_path=path,
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        names=tuple(f"name {i}" for i in range(len(boxes))),
        difficult=np.arange(len(boxes)) % 2 == 1,
        source="a.xml",
        crowd=None if crowd is None else np.array(crowd),
    )


def test_the_records_boxes_lie_inside_and_each_keeps_what_belongs_to_it(tmp_path: Path) -> None:
    path = draw_image(tmp_path / "a.png")
    boxes = ((-2, -3, 30, 20), (60, 40, 90, 90), (10, 10, 20, 20), (40, 30, 70, 50))
    crowd = [False, True, False, True]
    (found,), _ = inspect([record(path, *boxes, crowd=crowd)], Remarks())
    assert found.boxes.tolist() == [[0, 0, 30, 20], [10, 10, 20, 20], [40, 30, 64, 48]]
    assert found.boxes.dtype == np.float32
    assert found.names == ("name 0", "name 2", "name 3")
    assert found.difficult.tolist() == [False, False, True]
    assert found.crowd is not None and found.crowd.tolist() == [False, False, True]
    assert found.size == SIZE


def test_a_box_of_next_to_no_size_stays_and_is_named(tmp_path: Path) -> None:
    notes = Remarks()
    (found,), _ = inspect([record(draw_image(tmp_path / "a.png"), (0, 0, 1e-30, 1e-30))], notes)
    assert found.names == ("name 0",)
    assert "boxes less than a pixel wide or high: 1" in notes.lines()[0]
    over_the_edge = (-1e-30, 0, 0, 9), (-1e-30, 0, 1e-30, 1e-30)
    (found,), _ = inspect([record(found.image_path, *over_the_edge)], notes)
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()


def test_a_record_without_boxes_stays_and_learns_its_size(tmp_path: Path) -> None:
    notes = Remarks()
    (found,), (picture,) = inspect([record(draw_image(tmp_path / "a.png"))], notes)
    assert found.boxes.shape == (0, 4) and found.size == picture.size == SIZE
    assert found.crowd is None and notes.lines() == ()


def test_pictures_come_back_for_all_records_and_records_for_what_can_be_read(
    tmp_path: Path,
) -> None:
    paths = [draw_image(tmp_path / f"{i}.png") for i in range(3)]
    paths[1].write_bytes(b"")
    found, pictures = inspect([record(path) for path in paths], Remarks())
    assert [r.image_path for r in found] == [paths[0], paths[2]]
    assert [p.path for p in pictures] == paths


def chunk(kind: bytes, content: bytes) -> bytes:
    whole = kind + content
    return len(content).to_bytes(4, "big") + whole + zlib.crc32(whole).to_bytes(4, "big")


def turned_by(place: str) -> bytes:
    """A chunk of PNG that says: turned by a quarter."""
    exif = Image.Exif()
    exif[0x0112] = 6
    raw = exif.tobytes()
    xmp = b'<rdf:Description tiff:Orientation="6"/>'
    profile = f"\nexif\n{len(raw):8}\n{raw.hex()}\n".encode()
    return {
        "eXIf": chunk(b"eXIf", raw[6:]),
        "XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
        "profile": chunk(b"tEXt", b"Raw profile type exif\0" + profile),
        "packed profile": chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile)),
    }[place]


@pytest.mark.parametrize("place", ["eXIf", "XMP", "profile", "packed profile"])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("annotated", [None, SIZE, SIZE[::-1]])
def test_an_orientation_is_seen_wherever_a_png_holds_it(
    annotated: tuple[int, int] | None, late: bool, place: str, tmp_path: Path
) -> None:
    path = draw_image(tmp_path / "a.png")
    content = path.read_bytes()
    at = len(content) - 12 if late else 33  # before IEND or behind IHDR
    much = chunk(b"tEXt", b"Comment\0" + bytes(5000))
    path.write_bytes(content[:at] + much + turned_by(place) + much + content[at:])
    seen, decoded = probe(path, annotated), probe(path, annotated, decode=True)
    assert seen.size == decoded.size == read_image(path, annotated).size
    assert seen.orientation == decoded.orientation == 6
    assert probe(path).size == SIZE[::-1]


def test_texts_of_a_png_that_turn_nothing_do_not_make_it_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = draw_image(tmp_path / "a.png")
    content = path.read_bytes()
    date = chunk(b"tEXt", b"date:create\x002026-01-01") + chunk(b"tIME", bytes(7))
    early = content[:33] + turned_by("XMP") + content[33:-12]
    path.write_bytes(early + date + content[-12:] + b"appended by a tool" * 100)
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    assert probe(path).size == SIZE[::-1]


def test_a_png_without_its_end_is_decoded(tmp_path: Path) -> None:
    path = draw_image(tmp_path / "a.png")
    content = path.read_bytes()
    for cut in range(40, len(content) - 8, 7):
        path.write_bytes(content[:cut])
        seen = probe(path)
        assert seen.error or seen.digest


def saved_turned(path: Path, orientation: int, size: tuple[int, int] = SIZE) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size, "grey").save(path, exif=exif)
    return path


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("stated", [None, SIZE, SIZE[::-1]])
def test_a_turn_that_nothing_confirms_is_counted(
    stated: tuple[int, int] | None, orientation: int, tmp_path: Path
) -> None:
    path = saved_turned(tmp_path / "a.jpg", orientation)
    notes = Remarks()
    inspect([replace(record(path, (1, 1, 9, 9)), size=stated), record(path)], notes)
    turns = [line for line in notes.lines() if "EXIF turns" in line]
    # An image without objects has no boxes to turn.
    guessed = {1: (), 3: (None, SIZE), 6: (None,)}[orientation]
    assert len(turns) == (stated in guessed)
    if turns:
        assert turns[0].endswith(f"the turned picture is used: 1 (e.g. {path})")
        assert ("states no size that could tell" in turns[0]) == (orientation == 6)


def test_a_box_without_area_is_never_dropped_without_a_word(tmp_path: Path) -> None:
    notes = Remarks()
    (found,), _ = inspect([record(draw_image(tmp_path / "a.png"), (5, 5, 5, 9))], notes)
    assert found.names == () and "boxes without area, dropped: 1" in notes.lines()[0]


def test_of_very_many_places_the_first_are_kept_and_all_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("data.remarks.KEPT_PLACES", 3)
    notes = Remarks()
    for i in range(5):
        notes.count("boxes without area", f"row {i}")
    (remark,) = notes.remarks
    assert remark.count == 5 and remark.places == ["row 0", "row 1", "row 2"]
