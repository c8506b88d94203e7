"""Records held against their pictures: rows of boxes, names and flags stay together."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.dataset import Annotation
from data.images import look_at, read_image
from data.inspection import inspect
from data.notes import Notes
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
    (found,), _ = inspect([record(path, *boxes, crowd=crowd)], Notes())
    assert found.boxes.tolist() == [[0, 0, 30, 20], [10, 10, 20, 20], [40, 30, 64, 48]]
    assert found.boxes.dtype == np.float32
    assert found.names == ("name 0", "name 2", "name 3")
    assert found.difficult.tolist() == [False, False, True]
    assert found.crowd is not None and found.crowd.tolist() == [False, False, True]
    assert found.size == SIZE


def test_a_box_of_next_to_no_size_stays_and_is_named(tmp_path: Path) -> None:
    notes = Notes()
    (found,), _ = inspect([record(draw_image(tmp_path / "a.png"), (0, 0, 1e-30, 1e-30))], notes)
    assert found.names == ("name 0",)
    assert "boxes less than a pixel wide or high: 1" in notes.lines()[0]
    over_the_edge = (-1e-30, 0, 0, 9), (-1e-30, 0, 1e-30, 1e-30)
    (found,), _ = inspect([record(found.image_path, *over_the_edge)], notes)
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()


def test_a_record_without_boxes_stays_and_learns_its_size(tmp_path: Path) -> None:
    notes = Notes()
    (found,), (picture,) = inspect([record(draw_image(tmp_path / "a.png"))], notes)
    assert found.boxes.shape == (0, 4) and found.size == picture.size == SIZE
    assert found.crowd is None and notes.lines() == ()


def test_pictures_come_back_for_all_records_and_records_for_what_can_be_read(
    tmp_path: Path,
) -> None:
    paths = [draw_image(tmp_path / f"{i}.png") for i in range(3)]
    paths[1].write_bytes(b"")
    found, pictures = inspect([record(path) for path in paths], Notes())
    assert [r.image_path for r in found] == [paths[0], paths[2]]
    assert [p.path for p in pictures] == paths


def chunk(kind: bytes, content: bytes) -> bytes:
    whole = kind + content
    return len(content).to_bytes(4, "big") + whole + zlib.crc32(whole).to_bytes(4, "big")


@pytest.mark.parametrize("annotated", [None, SIZE, SIZE[::-1]])
def test_an_orientation_behind_the_pixels_of_a_png_is_seen(
    annotated: tuple[int, int] | None, tmp_path: Path
) -> None:
    path = draw_image(tmp_path / "a.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    content, end = path.read_bytes()[:-12], path.read_bytes()[-12:]
    path.write_bytes(content + chunk(b"eXIf", exif.tobytes()[6:]) + end)
    assert look_at(path, annotated).size == read_image(path, annotated).size
    assert look_at(path).size == SIZE[::-1]


def test_of_very_many_places_the_first_are_kept_and_all_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("data.notes.KEPT_PLACES", 3)
    notes = Notes()
    for i in range(5):
        notes.count("boxes without area", f"row {i}")
    (remark,) = notes.remarks
    assert remark.count == 5 and remark.places == ["row 0", "row 1", "row 2"]
