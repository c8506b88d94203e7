"""Playing cards drawn by the program: the style of a deck and the face of one card.

Coordinates on a card are millimetres of the usual poker size, origin at the top left, y down.
Everything is drawn at twice the requested size and reduced: Pillow's shapes have hard edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data.drawn_cards.courts import COURT_RANKS, court_figure
from data.drawn_cards.signs import STROKES, SUITS, Colour, Palette, draw_suit

RANKS = ("ace", "jack", "king", "nine", "queen", "ten")
CARD_WIDTH_MM, CARD_HEIGHT_MM = 63.0, 88.0
INDEX_TEXT = {"ace": "A", "jack": "J", "king": "K", "nine": "9", "queen": "Q", "ten": "10"}

_SUPERSAMPLING = 2
_COLUMN, _ROWS = 0.215, (-0.32, -0.107)
# Pips as (x, y) from the centre in shares of the card; the lower half is the upper one rotated.
_UPPER_PIPS: dict[str, list[tuple[float, float]]] = {
    "nine": [(s * _COLUMN, y) for s in (-1, 1) for y in _ROWS],
    "ten": [(s * _COLUMN, y) for s in (-1, 1) for y in _ROWS] + [(0.0, -0.215)],
}


@dataclass(frozen=True)
class DeckStyle:
    """What the cards of one deck have in common. Lengths in millimetres, colours RGB 0..255.

    index_stroke: thickness of the index letters as a share of their height. drawn_index: letters
    with slab serifs drawn as strokes instead of set in Pillow's font. frame_inset: distance of the
    courts' frame from the card's long and short edges. palette: red, blue, yellow, black of courts.
    """

    stock: Colour = (248, 247, 243)
    red: Colour = (205, 28, 38)
    black: Colour = (24, 22, 26)
    index_height: float = 9.0
    index_width: float = 6.0
    index_stroke: float = 0.14
    drawn_index: bool = True
    pip_size: float = 13.0
    ace_size: float = 16.0
    ornate_spade: bool = True
    corner_radius: float = 3.4
    frame_inset: tuple[float, float] = (10.0, 9.5)
    frame_width: float = 0.5
    frame_colour: Colour = (30, 60, 150)
    palette: Palette = ((212, 38, 40), (32, 76, 160), (238, 200, 40), (22, 20, 24))
    skin: Colour = (248, 247, 243)
    court_seed: int = 0

    @staticmethod
    def random(rng: np.random.Generator) -> DeckStyle:
        """A deck like those that people own: mostly white stock, mostly slim indices."""

        def about(colour: Colour, spread: int) -> Colour:
            r, g, b = np.clip(np.add(colour, rng.integers(-spread, spread + 1, 3)), 0, 255)
            return int(r), int(g), int(b)

        red = about((208, 30, 38), 22)
        blue, yellow = about((34, 76, 160), 28), about((236, 196, 46), 26)
        black = about((24, 22, 26), 6)
        stock = about(((249, 248, 245), (246, 240, 226))[int(rng.random() < 0.3)], 5)
        index_height = float(rng.uniform(8.5, 11.5))
        return DeckStyle(
            stock=stock,
            red=red,
            black=black,
            index_height=index_height,
            index_width=index_height * float(rng.uniform(0.55, 0.74)),
            index_stroke=float(rng.uniform(0.12, 0.19)),
            drawn_index=bool(rng.random() < 0.6),
            pip_size=float(rng.uniform(11.0, 13.5)),
            ace_size=float(rng.choice([14.0, 20.0, 28.0])),
            ornate_spade=bool(rng.random() < 0.6),
            corner_radius=float(rng.uniform(2.8, 4.4)),
            frame_inset=(index_height * 0.75 + rng.uniform(1.5, 3.5), rng.uniform(7.5, 10.5)),
            frame_width=float(rng.uniform(0.35, 0.8)),
            frame_colour=blue if rng.random() < 0.7 else black,
            palette=(red, blue, yellow, black),
            skin=stock if rng.random() < 0.6 else about((246, 216, 190), 10),
            court_seed=int(rng.integers(2**31)),
        )


def draw_card(rank: str, suit: str, style: DeckStyle, height: int) -> Image.Image:
    """The face of one card: RGBA, ``height`` pixels high, width 63/88 of it.

    Transparent pixels outside the rounded corners keep the stock's colour, so that a card can be
    resampled without a dark rim. Raises ValueError for an unknown rank or suit.
    """
    if rank not in RANKS or suit not in SUITS:
        raise ValueError(f"no card {rank!r} of {suit!r}: ranks {RANKS}, suits {SUITS}")
    scale = height * _SUPERSAMPLING / CARD_HEIGHT_MM
    size = (round(CARD_WIDTH_MM * scale), height * _SUPERSAMPLING)
    face = Image.new("RGB", size, style.stock)
    ink = style.red if suit in ("diamonds", "hearts") else style.black
    if rank in COURT_RANKS:
        _draw_court(face, rank, suit, ink, style, scale)
    elif rank == "ace":
        _draw_ace(face, suit, ink, style, scale)
    else:
        _draw_pips(face, rank, suit, ink, style, scale)
    _draw_index(face, rank, suit, ink, style, scale)
    mask = Image.new("L", size, 0)
    outline = (0, 0, size[0] - 1, size[1] - 1)
    ImageDraw.Draw(mask).rounded_rectangle(outline, style.corner_radius * scale, fill=255)
    face.putalpha(mask)
    width = round(height * CARD_WIDTH_MM / CARD_HEIGHT_MM)
    return face.resize((width, height), Image.Resampling.BOX)


def _draw_pips(
    face: Image.Image, rank: str, suit: str, ink: Colour, style: DeckStyle, scale: float
) -> None:
    draw = ImageDraw.Draw(face)
    size = style.pip_size * scale
    x, y = face.width / 2, face.height / 2
    for right, down in _UPPER_PIPS[rank]:
        dx, dy = right * face.width, down * face.height
        draw_suit(draw, suit, (x + dx, y + dy), size, ink)
        draw_suit(draw, suit, (x - dx, y - dy), -size, ink)
    if rank == "nine":
        draw_suit(draw, suit, (x, y), size, ink)


def _draw_ace(face: Image.Image, suit: str, ink: Colour, style: DeckStyle, scale: float) -> None:
    draw = ImageDraw.Draw(face)
    x, y = face.width / 2, face.height / 2
    if not (suit == "spades" and style.ornate_spade):
        draw_suit(draw, suit, (x, y), style.ace_size * scale, ink)
        return
    size = 33 * scale
    draw_suit(draw, suit, (x, y), size, ink)
    draw_suit(draw, suit, (x, y - 0.03 * size), size * 0.78, style.stock)
    draw_suit(draw, suit, (x, y - 0.04 * size), size * 0.7, ink)
    for angle in np.arange(8) * np.pi / 4:
        px = x + 4.6 * scale * np.cos(angle)
        py = y + (4.6 * np.sin(angle) - 2) * scale
        draw.ellipse((px - scale, py - scale, px + scale, py + scale), fill=style.stock)
    draw_suit(draw, suit, (x, y - 0.06 * size), size * 0.2, style.stock)
    for offset, width in ((21, 22), (24, 13), (-23, 16)):
        _fine_print(draw, x, y + offset * scale, width * scale, scale, ink)


def _fine_print(
    draw: ImageDraw.ImageDraw, x: float, y: float, width: float, scale: float, ink: Colour
) -> None:
    letters = max(4, int(width / (1.5 * scale)))
    for i in range(letters):
        left = x - width / 2 + width * i / letters
        draw.rectangle((left, y - 0.7 * scale, left + 0.9 * scale, y + 0.7 * scale), fill=ink)


def _draw_court(
    face: Image.Image, rank: str, suit: str, ink: Colour, style: DeckStyle, scale: float
) -> None:
    inset_x, inset_y = (round(inset * scale) for inset in style.frame_inset)
    width, height = face.width - 2 * inset_x, face.height - 2 * inset_y
    rng = np.random.default_rng([style.court_seed, RANKS.index(rank), SUITS.index(suit)])
    figure = court_figure(rank, (width, height), style.palette, style.skin, style.stock, rng)
    face.paste(figure, (inset_x, inset_y))
    draw = ImageDraw.Draw(face)
    x, y = inset_x + 6.6 * scale, inset_y + 7.8 * scale
    draw_suit(draw, suit, (x, y), 12.5 * scale, ink)
    draw_suit(draw, suit, (face.width - x, face.height - y), -12.5 * scale, ink)
    frame = (inset_x, inset_y, inset_x + width, inset_y + height)
    line = max(1, round(style.frame_width * scale))
    draw.rectangle(frame, outline=style.frame_colour, width=line)


def _draw_index(
    face: Image.Image, rank: str, suit: str, ink: Colour, style: DeckStyle, scale: float
) -> None:
    """Rank and small suit in the upper left corner, and turned in the lower right one."""
    width = style.index_width * scale * (1.2 if rank == "ten" else 1.0)
    letter = _letters(INDEX_TEXT[rank], style).resize(
        (max(1, round(width)), round(style.index_height * scale)), Image.Resampling.BICUBIC
    )
    corner = Image.new("L", (round(width), round(style.index_height * 1.75 * scale)), 0)
    corner.paste(letter, (0, 0))
    small = style.index_height * 0.6 * scale
    centre = (corner.width / 2, corner.height - small / 2)
    draw_suit(ImageDraw.Draw(corner), suit, centre, small, 255)
    left = round(max(1.4 * scale, (2.0 * scale + style.index_width * scale / 2) - width / 2))
    top = round(3.0 * scale)
    face.paste(ink, (left, top), corner)
    turned = corner.rotate(180)
    face.paste(ink, (face.width - left - corner.width, face.height - top - corner.height), turned)


@lru_cache(maxsize=256)
def _letters(text: str, style: DeckStyle) -> Image.Image:
    """The index's letters as a tight ink mask, to be resized by the caller."""
    size = 160
    mask = Image.new("L", (2 * size * len(text), 2 * size), 0)
    draw = ImageDraw.Draw(mask)
    if style.drawn_index:
        for i, letter in enumerate(text):
            for line in STROKES[letter]:
                points = [((x * 0.9 + i * 1.0 + 0.2) * size, (y + 0.2) * size) for x, y in line]
                draw.line(points, fill=255, width=round(style.index_stroke * size), joint="curve")
    else:
        font = ImageFont.load_default(size=size)
        stroke = round((style.index_stroke - 0.1) * 0.5 * size)
        draw.text((size / 2, size / 4), text, fill=255, font=font, stroke_width=stroke)
    return mask.crop(mask.getbbox())
