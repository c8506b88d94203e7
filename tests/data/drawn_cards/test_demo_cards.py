"""The drawn playing cards: what is promised of a card, a scene and a written set."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.drawn_cards import demo_cards, scene
from data.drawn_cards.camera import warp
from data.drawn_cards.card import RANKS, DeckStyle, draw_card
from data.drawn_cards.demo_cards import demo_cards_folder, write_demo_cards
from data.drawn_cards.scene import SIZE, LaidCard, Table, draw_scene
from data.drawn_cards.signs import SUITS
from tests.conftest import ROOT
from utils.errors import UserError


def scenes(count: int) -> list:
    return [draw_scene(np.random.default_rng([5, i])) for i in range(count)]


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("suit", SUITS)
@pytest.mark.parametrize("rank", RANKS)
def test_a_card_looks_the_same_upside_down(rank, suit):
    style = DeckStyle.random(np.random.default_rng(3))
    face = np.asarray(draw_card(rank, suit, style, 176).convert("L"), dtype=float)
    differs = np.abs(face - face[::-1, ::-1]) > 96
    # A nine's middle pip and an ace's only one stand upright.
    assert differs.mean() < (0.13 if rank == "ace" else 0.05)


def test_all_24_cards_of_a_deck_look_different():
    faces = [
        np.asarray(draw_card(rank, suit, DeckStyle(), 88).convert("RGB"), dtype=float)
        for rank in RANKS
        for suit in SUITS
    ]
    for i, face in enumerate(faces):
        assert all(np.abs(face - other).mean() > 1.5 for other in faces[:i])


def test_a_card_has_the_requested_height_and_round_transparent_corners():
    card = draw_card("ten", "hearts", DeckStyle(), 176)
    alpha = np.asarray(card.getchannel("A"))
    assert card.size == (126, 176) and card.mode == "RGBA"
    assert alpha[0, 0] == alpha[-1, -1] == 0 and alpha[88, 0] == alpha[0, 63] == 255


def test_boxes_lie_in_the_image_with_positive_area_and_one_name_each():
    for image, boxes, names in scenes(30):
        assert image.mode == "RGB" and image.size == SIZE
        assert boxes.dtype == np.float32 and boxes.shape == (len(names), 4) and len(names) >= 1
        assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= image.size).all()
        assert (boxes[:, 2:] - boxes[:, :2] > 8).all()


def test_every_rank_and_every_number_of_cards_occurs():
    drawn = scenes(40)
    assert {name for _, _, names in drawn for name in names} == {
        "ace", "jack", "king", "nine", "queen", "ten"
    }  # fmt: skip
    assert {len(names) for _, _, names in drawn} == {1, 2, 3}


def test_a_box_is_the_tight_envelope_of_the_pixels_of_its_card(monkeypatch):
    """One card on a dark ground before it is photographed: its edge is bright."""
    monkeypatch.setattr(scene, "ground", lambda _, size: Image.new("RGB", size, (10, 50, 30)))
    for i in range(25):
        table = Table(np.random.default_rng([5, i]), SIZE)
        table.count = 1
        table.lay_cards()
        bright = np.asarray(table.image).min(axis=2) > 128
        rows, columns = bright.any(axis=1).nonzero()[0], bright.any(axis=0).nonzero()[0]
        envelope = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        np.testing.assert_allclose(table.cards[0].box(), envelope, atol=1.01)


def test_a_labelled_card_shows_enough_of_itself_and_no_pixel_of_another(monkeypatch):
    """Judged by the masks of the finished scene, not by the check made while it is laid."""
    laid: list[LaidCard] = []
    box = LaidCard.box
    monkeypatch.setattr(LaidCard, "box", lambda card: laid.append(card) or box(card))
    for i in range(30):
        first = len(laid)
        draw_scene(np.random.default_rng([5, i]))
        assert sum(card.visible.astype(int) for card in laid[first:]).max() == 1
    for card in laid:
        assert card.visible.sum() >= 0.88 * card.area * 0.97
        points = np.floor(card.points).astype(int)
        height, width = card.visible.shape
        assert any(0 <= x < width and 0 <= y < height and card.visible[y, x] for x, y in points)


def test_a_card_without_a_visible_index_is_not_recognisable():
    visible = np.arange(400).reshape(20, 20) < 200
    for index, recognisable in (((2.0, 2.0), True), ((2.0, 12.0), False), ((-3.0, 2.0), False)):
        card = LaidCard("ace", visible, 400.0, np.array([index, (18.0, 18.0)]))
        assert card.is_recognisable(0.55) == recognisable


def test_a_sprite_ends_in_its_own_colour_and_not_in_a_dark_rim():
    white = Image.new("RGBA", (40, 60), (255, 255, 255, 255))
    quad = np.array([(10.3, 8.4), (47.2, 14.9), (40.1, 70.7), (5.5, 60.2)])
    colour, mask = warp(white, quad, (64, 80))
    assert np.asarray(colour)[np.asarray(mask) > 0].min() == 255


def test_a_written_set_has_the_layout_of_the_photographed_cards(tmp_path):
    folder = write_demo_cards(tmp_path / "cards", train=5, validation=2)
    for split, count in (("train", 5), ("test", 2)):
        rows = rows_of(folder / f"{split}_labels.csv")
        assert tuple(rows[0]) == demo_cards.HEADER
        images = {path.name for path in (folder / split).iterdir()}
        assert {row["filename"] for row in rows} == images and len(images) == count
        for row in rows:
            with Image.open(folder / split / row["filename"]) as image:
                assert image.size == (int(row["width"]), int(row["height"]))
            assert row["class"] in RANKS
            assert 0 <= int(row["xmin"]) < int(row["xmax"]) <= image.width
            assert 0 <= int(row["ymin"]) < int(row["ymax"]) <= image.height


def test_a_picture_depends_on_seed_split_and_index_alone(tmp_path):
    few = files_of(write_demo_cards(tmp_path / "few", train=2, validation=1, seed=4))
    many = files_of(write_demo_cards(tmp_path / "many", train=3, validation=2, seed=4))
    other = files_of(write_demo_cards(tmp_path / "other", train=2, validation=1, seed=5))
    pictures = [name for name in few if name.endswith(".jpg")]
    assert len(pictures) == 3
    assert all(few[name] == many[name] != other[name] for name in pictures)
    assert len({few[name] for name in pictures}) == 3


def test_several_processes_draw_what_one_draws(tmp_path, monkeypatch):
    alone = files_of(write_demo_cards(tmp_path / "alone", train=5, validation=2))
    monkeypatch.setattr(demo_cards, "SMALL_SET", 0)
    monkeypatch.setattr(demo_cards, "processors", lambda: 2)
    assert files_of(write_demo_cards(tmp_path / "pool", train=5, validation=2)) == alone


def test_the_set_is_complete_where_no_process_can_be_started(tmp_path, monkeypatch):
    class BrokenPool:
        def __init__(self, *_args, **_kwargs):
            raise demo_cards.BrokenProcessPool("no process")

    monkeypatch.setattr(demo_cards, "SMALL_SET", 0)
    monkeypatch.setattr(demo_cards, "processors", lambda: 2)
    monkeypatch.setattr(demo_cards, "ProcessPoolExecutor", BrokenPool)
    folder = write_demo_cards(tmp_path / "cards", train=3, validation=1)
    assert len(list((folder / "train").iterdir())) == 3


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_writing_leaves_nothing_behind(tmp_path, failure):
    def stop(drawn: int, _: int) -> None:
        if drawn == 2:
            raise failure

    with pytest.raises(failure):
        demo_cards_folder(tmp_path, train=3, validation=1, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_the_final_name_appears_only_with_the_complete_set(tmp_path):
    """What a run that is killed outright leaves: never a folder of the final name."""
    seen = []
    folder = tmp_path / "cards"
    write_demo_cards(
        folder, 3, 1, progress=lambda drawn, total: seen.append((drawn, total, folder.exists()))
    )
    assert seen == [(1, 4, False), (2, 4, False), (3, 4, False), (4, 4, False)]
    assert folder.is_dir() and list(tmp_path.iterdir()) == [folder]


def test_a_second_call_draws_nothing_unless_its_arguments_differ(tmp_path, monkeypatch):
    first = demo_cards_folder(tmp_path, train=2, validation=1)
    monkeypatch.setattr(demo_cards, "draw_scene", lambda *_: pytest.fail("drawn again"))
    assert demo_cards_folder(tmp_path, train=2, validation=1) == first
    assert first.name == f"demo-cards-{demo_cards.GENERATOR_VERSION}-demo-2-1-0"
    for other in ((1, 1, 0), (2, 2, 0), (2, 1, 1)):
        with pytest.raises(pytest.fail.Exception):
            demo_cards_folder(tmp_path, *other)


def test_an_existing_folder_is_not_touched(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="exists already"):
        write_demo_cards(tmp_path, train=1, validation=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("numbers", [(0, 1, 0), (1, -1, 0), (1, 1, -1)])
def test_impossible_numbers_are_refused(tmp_path, numbers):
    train, validation, seed = numbers
    with pytest.raises(UserError, match=f"train={train}, validation={validation}, seed={seed}"):
        write_demo_cards(tmp_path / "cards", train, validation, seed)
    assert list(tmp_path.iterdir()) == []


def test_importing_draws_nothing_and_loads_no_torch():
    code = (
        "import sys, PIL.ImageDraw, PIL.ImageFont\n"
        "def fail(*a, **k): raise AssertionError('drawn on import')\n"
        "PIL.ImageDraw.Draw = PIL.ImageFont.load_default = fail\n"
        "import data.drawn_cards.demo_cards, data.reading.folder, data.reading.box_parsing\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
