"""Things that lie about in a drawn scene: none of them is an object of any class.

Each is a sprite, RGBA, drawn upright and as seen from above; the scene lays it like a card.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data.drawn_cards.signs import Colour

Rng = np.random.Generator

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_WHITE: Colour = (246, 245, 241)


def thing_colour(rng: Rng, strongest: float = 0.9) -> Colour:
    """A colour as things have it: mostly muted, its saturation at most ``strongest``."""
    saturation = strongest * rng.uniform(0, 1) ** 1.7
    r, g, b = colorsys.hsv_to_rgb(rng.random(), saturation, rng.uniform(0.08, 0.95))
    return round(255 * r), round(255 * g), round(255 * b)


@lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _words(rng: Rng, letters: int) -> str:
    """Gibberish of about that many letters, in words."""
    chosen = [_LETTERS[i] for i in rng.integers(len(_LETTERS), size=letters)]
    for i in np.cumsum(rng.integers(3, 9, size=letters // 4)):
        if i < letters:
            chosen[i] = " "
    text = "".join(chosen)
    return text if rng.random() < 0.3 else text.capitalize()


def _text_lines(
    draw: ImageDraw.ImageDraw, rng: Rng, box: Sequence[float], pitch: float, ink: Colour
) -> None:
    x0, y, x1, y1 = box
    size = max(5, round(pitch * 0.8))
    while y + pitch < y1:
        letters = max(2, int(rng.uniform(0.6, 1.0) * (x1 - x0) / (0.58 * size)))
        draw.text((x0, y), _words(rng, letters), fill=ink, font=_font(size))
        y += pitch


def card_back(rng: Rng) -> Image.Image:
    """A card lying face down."""
    width, height = 126, 176
    red = rng.random() < 0.5
    r, g, b = rng.integers(-18, 19, 3) + ((186, 36, 44) if red else (36, 66, 150))
    ink = int(r), int(g), int(b)
    face = Image.new("RGB", (width, height), _WHITE)
    panel = Image.new("RGB", (width - 18, height - 18), ink)
    draw = ImageDraw.Draw(panel)
    for i in range(-height, 2 * width, int(rng.integers(6, 14))):
        draw.line((i, 0, i + height, height), fill=_WHITE, width=1)
        draw.line((i + height, 0, i, height), fill=_WHITE, width=1)
    x, y = panel.width / 2, panel.height / 2
    for radius, fill in ((26, _WHITE), (22, ink), (12, _WHITE), (7, ink)):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    draw.rectangle((0, 0, panel.width - 1, panel.height - 1), outline=ink, width=3)
    face.paste(panel, (9, 9))
    mask = Image.new("L", face.size, 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, width - 1, height - 1), 7, fill=255)
    face.putalpha(mask)
    return face


def paper(rng: Rng) -> Image.Image:
    """A printed or handwritten sheet; small ones are as white as a card."""
    width, height = 200, int(rng.uniform(140, 300))
    shade = int(rng.integers(200, 252))
    sheet = Image.new("RGB", (width, height), (shade, shade, shade - int(rng.integers(0, 25))))
    draw = ImageDraw.Draw(sheet)
    ink = (40, 40, 48) if rng.random() < 0.7 else (50, 60, 130)
    if rng.random() < 0.85:
        _text_lines(draw, rng, (14, 14, width - 14, height - 10), rng.uniform(7, 16), ink)
    if rng.random() < 0.4:
        x, y = rng.uniform(10, 80), rng.uniform(10, height - 70)
        draw.rectangle((x, y, x + rng.uniform(40, 100), y + 60), fill=thing_colour(rng))
    sheet.putalpha(255)
    return sheet


def book(rng: Rng) -> Image.Image:
    """A book, box or magazine: a coloured cover with a title and a picture."""
    width, height = 190, int(rng.uniform(190, 290))
    ground = thing_colour(rng)
    cover = Image.new("RGB", (width, height), ground)
    draw = ImageDraw.Draw(cover)
    if rng.random() < 0.7:
        x, y = rng.uniform(0, 0.4, 2) * (width, height)
        w, h = rng.uniform(0.4, 0.9, 2) * (width, height)
        draw.rectangle((x, y, x + w, y + h), fill=thing_colour(rng))
        for _ in range(int(rng.integers(1, 5))):
            a, c = rng.uniform(0, 0.8, 2) * (w, h) + (x, y)
            d, e = rng.uniform(0.1, 0.4, 2) * (w, h)
            draw.ellipse((a, c, a + d, c + e), fill=thing_colour(rng))
    ink = (240, 236, 222) if sum(ground) < 380 else (34, 30, 32)
    title = rng.uniform(0.02, 0.7) * height
    _text_lines(draw, rng, (12, title, width - 8, title + 70), rng.uniform(20, 44), ink)
    _text_lines(draw, rng, (12, height - 40, width - 12, height - 6), rng.uniform(9, 14), ink)
    cover.putalpha(255)
    return cover


def coin(rng: Rng) -> Image.Image:
    """A copper, brass or nickel coin."""
    metal = ((150, 84, 52), (196, 164, 88), (176, 178, 182))[rng.integers(3)]
    dark = (metal[0] * 2 // 3, metal[1] * 2 // 3, metal[2] * 2 // 3)
    image = Image.new("RGBA", (64, 64), (*metal, 0))
    draw = ImageDraw.Draw(image)
    draw.ellipse((1, 1, 62, 62), fill=(*metal, 255), outline=(*dark, 255), width=3)
    draw.ellipse((20, 12, 42, 44), fill=(*dark, 255))
    draw.pieslice((12, 36, 52, 70), 200, 340, fill=(*dark, 255))
    return image


def pen(rng: Rng) -> Image.Image:
    """A pen with a cap."""
    barrel, cap = thing_colour(rng), thing_colour(rng)
    image = Image.new("RGBA", (24, 260), (*barrel, 0))
    draw = ImageDraw.Draw(image)
    draw.rectangle((5, 20, 18, 220), fill=(*barrel, 255))
    draw.polygon([(5, 220), (18, 220), (12, 258)], fill=(60, 60, 64, 255))
    draw.rectangle((4, 2, 19, 80), fill=(*cap, 255))
    draw.line((9, 4, 9, 218), fill=(235, 235, 235, 255), width=2)
    return image


def gadget(rng: Rng) -> Image.Image:
    """A telephone, remote control, mouse or cup seen from above: round edges, shaded, dark."""
    width, height = int(rng.uniform(70, 150)), 170
    body = int(rng.integers(14, 90)) if rng.random() < 0.6 else int(rng.integers(150, 240))
    image = Image.new("RGBA", (width, height), (body, body, body, 0))
    draw = ImageDraw.Draw(image)
    radius = rng.uniform(8, width / 2 - 1)
    draw.rounded_rectangle((0, 0, width - 1, height - 1), radius, fill=(body, body, body, 255))
    face = (*thing_colour(rng), 255)
    draw.rounded_rectangle((7, 7, width - 8, height - 8), max(4.0, radius - 7), fill=face)
    for i in range(int(rng.integers(0, 12))):
        x, y = 16 + (i % 3) * (width - 32) / 3, 60 + (i // 3) * 24
        draw.rounded_rectangle((x, y, x + width / 6, y + 12), 4, fill=(body, body, body, 255))
    return image


# Each with its smallest and largest height, in heights of a card.
THINGS: tuple[tuple[Callable[[Rng], Image.Image], float, float], ...] = (
    (card_back, 1.0, 1.0),
    (paper, 1.0, 2.6),
    (book, 1.3, 2.6),
    (coin, 0.22, 0.32),
    (pen, 1.3, 1.7),
    (gadget, 0.9, 2.0),
)
