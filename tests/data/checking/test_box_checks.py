"""Records compared with their images: rows of boxes, names and flags stay together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data.checking.box_checks import check_boxes
from data.dataset import Annotation
from data.remarks import Remarks
from tests.data_sets import SIZE, annotation, draw_image, save_oriented


def record(path: Path, *boxes: tuple[float, float, float, float]) -> Annotation:
    return annotation(path, [(f"name {i}", *box) for i, box in enumerate(boxes)])


def checked(*records: Annotation) -> tuple[list[Any], tuple[str, ...]]:
    """The checked records, and the lines of what was remarked."""
    remarks = Remarks()
    kept, probes = check_boxes(records, remarks)
    assert [p.path for p in probes] == [r.image_path for r in records]
    return kept, remarks.lines()


def test_the_records_boxes_lie_inside_and_each_keeps_what_belongs_to_it(tmp_path: Path) -> None:
    path = draw_image(tmp_path / "a.png")
    boxes = ((-2, -3, 30, 20), (60, 40, 90, 90), (10, 10, 20, 20), (40, 30, 70, 50), (5, 5, 5, 9))
    crowd = np.array([False, True, False, True, True])
    (kept,), lines = checked(replace(record(path, *boxes), crowd=crowd))
    assert kept.boxes.tolist() == [[0, 0, 30, 20], [10, 10, 20, 20], [40, 30, 64, 48]]
    assert kept.boxes.dtype == np.float32
    assert kept.names == ("name 0", "name 2", "name 3")
    assert kept.difficult.tolist() == [False, False, True]
    assert kept.crowd is not None and kept.crowd.tolist() == [False, False, True]
    assert kept.size == SIZE and any("boxes without area, dropped: 1" in line for line in lines)


def test_a_box_of_next_to_no_size_stays_and_is_named(tmp_path: Path) -> None:
    path = draw_image(tmp_path / "a.png")
    (kept,), lines = checked(record(path, (0, 0, 1e-30, 1e-30)))
    assert kept.names == ("name 0",)
    assert "boxes less than a pixel wide or high: 1" in lines[0]
    (kept,), _ = checked(record(path, (-1e-30, 0, 0, 9), (-1e-30, 0, 1e-30, 1e-30)))
    assert (kept.boxes[:, 2:] > kept.boxes[:, :2]).all()


def test_a_record_without_boxes_stays_and_gets_its_size(tmp_path: Path) -> None:
    (kept,), lines = checked(record(draw_image(tmp_path / "a.png")))
    assert kept.boxes.shape == (0, 4) and kept.size == SIZE
    assert kept.crowd is None and lines == ()


def test_there_is_no_record_of_what_cannot_be_read(tmp_path: Path) -> None:
    paths = [draw_image(tmp_path / f"{i}.png") for i in range(3)]
    paths[1].write_bytes(b"")
    kept, _ = checked(*map(record, paths))
    assert [r and r.image_path for r in kept] == [paths[0], None, paths[2]]


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("stated", [None, SIZE, SIZE[::-1]])
def test_a_rotation_that_nothing_confirms_is_counted(
    stated: tuple[int, int] | None, orientation: int, tmp_path: Path
) -> None:
    path = save_oriented(tmp_path / "a.jpg", Image.new("RGB", SIZE, "grey"), orientation)
    # An image without objects has no boxes that could be wrong.
    _, lines = checked(replace(record(path, (1, 1, 9, 9)), size=stated), record(path))
    rotations = [line for line in lines if "EXIF rotates" in line]
    guessed = {1: (), 3: (None, SIZE), 6: (None,)}[orientation]
    assert len(rotations) == (stated in guessed)
    if rotations:
        assert rotations[0].endswith(f"the rotated image is used: 1 (e.g. {path})")
        assert ("states no size that could tell" in rotations[0]) == (orientation == 6)


def test_of_very_many_places_the_first_are_kept_and_all_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("data.remarks.KEPT_PLACES", 3)
    remarks = Remarks()
    for i in range(5):
        remarks.count("boxes without area", f"row {i}")
    (remark,) = remarks
    assert remark.count == 5 and remark.places == ["row 0", "row 1", "row 2"]
