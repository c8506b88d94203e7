"""The pictures of the README: the stored files are in order and the drawn boxes are labels."""

from __future__ import annotations

import runpy
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data.drawn_cards.card import RANKS
from images import draw
from images.draw import PICTURES
from tests.conftest import ROOT

FOLDER = ROOT / "images"


@pytest.mark.parametrize("name", [*PICTURES, "architecture.png"])
def test_a_stored_picture_is_small_and_opaque(name: str) -> None:
    with Image.open(FOLDER / name) as stored:
        assert not stored.has_transparency_data
    assert (FOLDER / name).stat().st_size < 350_000


@pytest.mark.parametrize("name", PICTURES)
def test_a_drawn_picture_is_the_same_each_time_and_of_the_size_of_the_stored_one(name: str) -> None:
    drawn = PICTURES[name]()
    assert drawn.tobytes() == PICTURES[name]().tobytes()
    with Image.open(FOLDER / name) as stored:
        assert stored.size == drawn.size


@pytest.mark.parametrize(
    ("make", "size", "pictures"), [(draw.banner, (1280, 320), 1), (draw.header, (1280, 360), 5)]
)
def test_the_drawn_boxes_are_labels_of_cards_inside_the_picture(
    make: Any, size: tuple[int, int], pictures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    monkeypatch.setattr(draw, "draw_boxes", lambda *each: calls.append(each) or each[0])
    assert make().size == size
    assert len(calls) == pictures
    for image, boxes, labels, captions in calls:
        assert len(boxes) == len(captions) > 0
        assert [RANKS[label - 1] for label in labels] == list(captions)
        left, top, right, bottom = np.asarray(boxes).T
        assert (left >= 0).all() and (left < right).all() and (right <= image.width).all()
        assert (top >= 0).all() and (top < bottom).all() and (bottom <= image.height).all()


def test_importing_the_script_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.Image, "save", lambda *_, **__: pytest.fail("a picture was saved"))
    monkeypatch.delitem(sys.modules, "images.draw")
    runpy.run_module("images.draw", run_name="imported")
