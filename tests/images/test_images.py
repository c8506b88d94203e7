"""The pictures of the README: the drawing follows the table, the stored files are in order."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data.drawn_cards.demo_cards import RANKS
from images import cards
from images.architecture import architecture_figure
from images.draw import FOLDER, PICTURES
from model import efficient_retinanet as retinanet
from model.efficient_retinanet import LEVELS, Level

TABLES = {
    "as it is": LEVELS,
    "without the last level": LEVELS[:-1],
    "without P6": LEVELS[:-2] + LEVELS[-1:],
    "without extra levels": LEVELS[:-2],
    "without the deepest tap": LEVELS[:5] + LEVELS[6:],
    "without a tap in between": LEVELS[:2] + LEVELS[3:],
    "with one level more": (*LEVELS, Level("P8", 256, 1024)),
    "with other numbers": tuple(Level(s, 2 * stride, size + 3) for s, stride, size in LEVELS),
}


def texts_of(figure: Any) -> list[Any]:
    return [text for axes in figure.axes for text in axes.texts]


@pytest.fixture(params=list(TABLES))
def table(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Sequence[Level]:
    monkeypatch.setattr(retinanet, "LEVELS", TABLES[request.param])
    return TABLES[request.param]


def test_each_level_of_the_table_is_one_row_with_its_stride_and_anchor_size(
    table: Sequence[Level],
) -> None:
    texts = texts_of(architecture_figure())
    words = [text.get_text() for text in texts]
    for number, level in enumerate(table, start=1):
        (mark,) = (text for text in texts if text.get_text() == str(number))
        row = [t.get_text() for t in texts if t.get_position()[1] == mark.get_position()[1]]
        assert f"stride {level.stride}" in row
        assert f"anchor {level.anchor_size} px" in row
    assert sum(text.startswith("anchor ") for text in words) == len(table)
    assert words.count("1×1") == sum(not level.source.startswith("P") for level in table)


def test_no_text_is_small_covers_another_or_leaves_the_drawing(table: Sequence[Level]) -> None:
    figure = architecture_figure()
    texts = texts_of(figure)
    extents = [text.get_window_extent() for text in texts]
    for text, extent in zip(texts, extents, strict=True):
        assert text.get_fontsize() >= 9
        assert extent.x0 >= 0 and extent.y0 >= 0
        assert extent.x1 <= figure.bbox.width and extent.y1 <= figure.bbox.height
    for (first, one), (second, other) in combinations(zip(texts, extents, strict=True), 2):
        assert not one.overlaps(other), (first.get_text(), second.get_text())


def test_the_channels_of_the_taps_are_drawn_from_deep_to_shallow() -> None:
    texts = sorted(texts_of(architecture_figure()), key=lambda text: -text.get_position()[1])
    channels = [t.get_text() for t in texts if t.get_text().endswith(" channels")]
    expected = [f"{n} channels" for n in (1280, 320, 192, 112, 80, 40)]
    assert [words for words in channels if words in expected] == expected


def test_the_number_of_anchors_follows_from_scales_and_ratios(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retinanet, "ASPECT_RATIOS", (0.5, 2.0))
    words = [text.get_text() for text in texts_of(architecture_figure())]
    assert "6 × 4 offsets" in words and "6 anchors at every location" in words


@pytest.mark.parametrize("name", PICTURES)
def test_a_stored_picture_has_the_drawn_size_is_small_and_opaque(name: str) -> None:
    path = FOLDER / name
    with Image.open(path) as stored:
        assert stored.size == PICTURES[name]().size
        assert not stored.has_transparency_data
    assert path.stat().st_size < 350_000


@pytest.mark.parametrize(
    "make, size, pictures",
    [
        (cards.banner, (1280, 320), 1),
        (cards.header, (1280, 360), 5),
    ],
)
def test_the_drawn_boxes_are_labels_of_cards_inside_the_picture(
    make: Any, size: tuple[int, int], pictures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def remember(image: Image.Image, *rest: Any) -> Image.Image:
        calls.append((image, *rest))
        return image

    monkeypatch.setattr(cards, "draw_boxes", remember)
    assert make().size == size
    assert len(calls) == pictures
    for image, boxes, labels, captions in calls:
        assert len(boxes) == len(captions) > 0
        assert [RANKS[label - 1] for label in labels] == list(captions)
        left, top, right, bottom = np.asarray(boxes).T
        assert (left >= 0).all() and (left < right).all() and (right <= image.width).all()
        assert (top >= 0).all() and (top < bottom).all() and (bottom <= image.height).all()


def test_a_picture_is_the_same_each_time_it_is_drawn() -> None:
    for make in (cards.banner, cards.header):
        assert make().tobytes() == make().tobytes()


def test_importing_the_script_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a picture was saved")

    monkeypatch.setattr(Image.Image, "save", refuse)
    monkeypatch.delitem(sys.modules, "images.draw")
    runpy.run_module("images.draw", run_name="imported")
