"""A COCO file is untrusted: whatever is wrong in it is one line with the file and the object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data import open_dataset
from tests.data_sets import Edit, refusal, write_sole_coco


def first(key: str, **values: object) -> Edit:
    """Change the first row of a list; a value of ``...`` removes it."""

    def edit(content: dict[str, Any]) -> None:
        row = content[key][0]
        row.update(values)
        for name in [n for n, v in values.items() if v is ...]:
            del row[name]

    return edit


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (first("annotations", image_id=8), "annotation 700: image_id 8 is not among the images"),
        (first("annotations", category_id=1), "annotation 700: category_id 1 is not among"),
        (first("annotations", image_id=[7]), "annotation 700: image_id is [7]; expected an id"),
        (first("annotations", id=..., image_id=8), "annotation number 1: image_id 8"),
        (first("annotations", bbox=...), "annotation 700: bbox is None; expected [x, y,"),
        (first("annotations", bbox=[1, 2, 3]), "bbox is [1, 2, 3]; expected [x, y,"),
        (first("annotations", bbox=[1, 2, "3", 4]), "expected [x, y, width, height], four"),
        (first("annotations", bbox=[1, 2, float("nan"), 4]), "bbox is [1, 2, nan, 4]; expected"),
        (first("annotations", bbox=[1, 2, float("inf"), 4]), "bbox is [1, 2, inf, 4]; expected"),
        (first("annotations", bbox=[1, 2, 10**400, 4]), "annotation 700: bbox is [1, 2, 1000"),
        (first("annotations", bbox=[9, 9, -3, 4]), "has a negative width or height"),
        (first("annotations", iscrowd="yes"), "iscrowd is 'yes'; expected 0 or 1"),
        (first("images", id=17), "image 17: the id is there more than once"),
        (first("images", id=None), "image number 1: id is None"),
        (first("images", file_name=3), "image 7: file_name is 3; expected a text"),
        (first("images", file_name="b.jpg"), "leads to"),
        (first("images", file_name="no\n\x1b[2J.jpg"), "image 7, 'no\\n\\x1b[2J.jpg'"),
        (first("categories", id=90), "category number 2: the id 90 is there more than once"),
        (first("categories", name=""), "category number 1: name is ''; expected a text"),
        (first("categories", name="\ud800"), "category number 1: name is"),
        (lambda c: c.pop("categories"), "'categories' is missing or no list of objects"),
        (lambda c: c.update(images={}), "'images' is missing or no list of objects"),
        (lambda c: c.update(annotations=[1]), "'annotations' is missing or no list of objects"),
        (lambda c: c.update(annotations=[]), "training split has 3 image(s) without any object"),
    ],
)
def test_what_is_wrong_is_shown_with_file_and_object(
    tmp_path: Path, edit: Edit, problem: str
) -> None:
    message = refusal(write_sole_coco(tmp_path, edit), validation_fraction=0.3)
    assert problem in message and str(tmp_path) in message


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "not readable as JSON"),
        (b'{"images": [', "not readable as JSON"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"images": ' + b"9" * 5000 + b"}", "not readable as JSON"),
        (b"[]", "not a COCO file"),
        (b"NaN", "not a COCO file"),
        (b'{"caption": "\xff"}', "not UTF-8"),
    ],
)
def test_a_file_that_is_no_coco_is_one_line(tmp_path: Path, raw: bytes, problem: str) -> None:
    (write_sole_coco(tmp_path) / "annotations" / "instances_default.json").write_bytes(raw)
    message = refusal(tmp_path)
    assert problem in message and "instances_default.json" in message


def test_a_byte_order_mark_is_no_obstacle(tmp_path: Path) -> None:
    path = write_sole_coco(tmp_path) / "annotations" / "instances_default.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(open_dataset(tmp_path).train) == 2
