"""Pictures: boxes, grids and curves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageColor

from utils.visualisation import (
    CAPTION_HEIGHT,
    COLOURS,
    GAP,
    colour_of,
    draw_boxes,
    draw_curves,
    image_grid,
)

NAN = float("nan")


def grey(width: int = 120, height: int = 90) -> Image.Image:
    return Image.new("RGB", (width, height), (120, 120, 120))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def changed(image: Image.Image, drawn: Image.Image) -> np.ndarray:
    return (pixels(image) != pixels(drawn)).any(axis=2)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_drawing_does_not_alter_the_picture(mode: str) -> None:
    image = grey().convert(mode)
    before = image.tobytes()
    drawn = draw_boxes(image, [[10, 40, 60, 80]], [1], ["ace 0.97"])
    assert drawn.mode == "RGB" and drawn.size == image.size
    assert image.tobytes() == before and changed(image.convert("RGB"), drawn).any()
    assert not changed(image.convert("RGB"), draw_boxes(image, [], [], [])).any()


def test_a_box_is_drawn_on_its_edges_in_its_class_s_colour() -> None:
    image = grey()
    for label in (1, 2, 3, len(COLOURS) + 1):
        drawn = draw_boxes(image, [[20, 40, 70, 80]], [label], ["x"])
        colour = ImageColor.getrgb(colour_of(label))
        for point in ((70, 60), (20, 60), (45, 80), (45, 40)):
            assert drawn.getpixel(point) == colour
        assert drawn.getpixel((45, 60)) == (120, 120, 120)
        assert not changed(image, drawn)[82:].any()


def test_neighbouring_classes_have_different_colours() -> None:
    assert len({colour_of(k) for k in range(1, len(COLOURS) + 1)}) == len(COLOURS)


def test_the_caption_lies_above_its_box_or_inside_where_there_is_no_room() -> None:
    image = grey(200, 200)
    above = changed(image, draw_boxes(image, [[20, 100, 90, 150]], [1], ["queen"]))
    assert above[85:99, 20:50].any() and not above[105:148, 25:85].any()
    inside = changed(image, draw_boxes(image, [[20, 0, 90, 150]], [1], ["queen"]))
    assert inside[4:12, 24:50].any()


@pytest.mark.parametrize("colour", range(1, len(COLOURS) + 1))
def test_a_caption_stands_out_from_its_ground(colour: int) -> None:
    image = grey(300, 300)
    drawn = pixels(draw_boxes(image, [[20, 100, 290, 250]], [colour], ["WWWWWWWW"]))
    box = drawn[86:99, 22:90] @ [0.299, 0.587, 0.114]
    assert box.max() - box.min() > 100


def test_each_box_needs_a_label_and_a_caption() -> None:
    for labels, captions in (([], ["a"]), ([1], []), ([1, 2], ["a"])):
        with pytest.raises(ValueError):
            draw_boxes(grey(), [[1, 1, 5, 5]], labels, captions)


# A caption without ink that begins between two pixels.
@example((1, 1), [(0.0, 0.0, 0.0, -1.999999999999993)], "")
@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 80), st.integers(1, 80)),
    st.lists(st.tuples(*[st.floats(-50, 150)] * 4), max_size=3),
    st.text(max_size=8),
)
def test_boxes_at_and_beyond_the_borders_can_be_drawn(
    size: tuple[int, int], corners: list[tuple[float, ...]], caption: str
) -> None:
    boxes = [[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in corners]
    drawn = draw_boxes(grey(*size), boxes, [1] * len(boxes), [caption] * len(boxes))
    assert drawn.size == size


def test_a_caption_at_the_right_border_is_moved_into_the_picture() -> None:
    image = grey(120, 90)
    drawn = draw_boxes(image, [[110, 50, 120, 80]], [1], ["queen 0.9"])
    columns = changed(image, drawn)[:48].any(axis=0).nonzero()[0]
    assert columns[0] < 90 and columns[-1] >= 117


@pytest.mark.parametrize(
    ("pairs", "across", "down"), [(0, 1, 1), (1, 1, 1), (2, 2, 1), (3, 3, 1), (4, 3, 2), (12, 3, 4)]
)
def test_a_grid_is_as_large_as_its_pairs_need(pairs: int, across: int, down: int) -> None:
    grid = image_grid([(grey(90, 90), grey(90, 90))] * pairs, ("truth", "detections"), side=50)
    assert grid.size == (across * (2 * 50 + 3 * GAP), down * (50 + CAPTION_HEIGHT + 2 * GAP))


def test_every_picture_of_a_grid_is_whole_and_in_its_place() -> None:
    """Nine pairs of all shapes, each picture of its own colour."""
    random = np.random.default_rng(0)
    colours = [tuple(c) for c in random.integers(130, 250, (18, 3)).tolist()]
    sizes = [(100, 20), (20, 100), (30, 30), (300, 200), (1, 50), (50, 50)] * 3
    pictures = [Image.new("RGB", s, c) for s, c in zip(sizes, colours, strict=True)]
    rows = list(zip(pictures[::2], pictures[1::2], strict=True))
    grid = pixels(image_grid(rows, ("", ""), side=40))
    cell_width, cell_height = 2 * 40 + 3 * GAP, 40 + CAPTION_HEIGHT + 2 * GAP
    for number, (picture, colour) in enumerate(zip(pictures, colours, strict=True)):
        ys, xs = (grid == colour).all(axis=2).nonzero()
        scale = min(1, 40 / max(picture.size))
        area = max(1, picture.width * scale) * max(1, picture.height * scale)
        assert len(xs) == pytest.approx(area, rel=0.1)
        pair, right = divmod(number, 2)
        left, top = (pair % 3) * cell_width, (pair // 3) * cell_height
        assert left + right * (40 + GAP) <= xs.min() and xs.max() < left + (1 + right) * (46) + GAP
        assert top + CAPTION_HEIGHT <= ys.min() and ys.max() < top + cell_height


def test_a_grid_shows_its_titles_and_leaves_its_pictures_alone() -> None:
    picture = grey(300, 200)
    with_titles = image_grid([(picture, picture)], ("ground truth", "detections"), side=120)
    without = image_grid([(picture, picture)], ("", ""), side=120)
    assert changed(with_titles, without)[: GAP + CAPTION_HEIGHT].any()
    assert picture.size == (300, 200)


PANELS = {
    "loss": {"training": [2.0, 1.0, 0.5], "validation": [NAN, 1.5, NAN]},
    "mAP": {"mAP": [NAN, NAN, NAN]},
}


@pytest.mark.parametrize(
    ("panels", "epochs"),
    [
        (PANELS, [1, 2, 3]),
        ({"loss": {"training": [1.0]}}, [1]),
        ({"loss": {"training": [NAN]}, "mAP": {"mAP": [NAN], "mAP50": [0.5]}}, [1]),
        ({"loss": {"training": []}}, []),
    ],
)
def test_curves_become_a_png(panels: dict, epochs: list[int], tmp_path: Path) -> None:
    draw_curves(panels, epochs, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.format == "PNG" and image.width > 300 * len(panels) and image.height > 200


def test_another_curve_gives_another_picture(tmp_path: Path) -> None:
    for name, values in (("a", [1.0, 2.0]), ("b", [2.0, 1.0]), ("c", [1.0, NAN])):
        draw_curves({"loss": {"x": values}}, [1, 2], tmp_path / f"{name}.png")
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 3
