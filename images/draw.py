"""Draw the README's banner and header: ``python -m images.draw`` writes them into ``images/``."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFilter, ImageFont

from data.drawn_cards.card import RANKS, DeckStyle, draw_card
from data.drawn_cards.scene import draw_scene, envelope
from utils.visualisation import COLOURS, draw_boxes

BANNER_SIZE = (1280, 320)
HEADER_SIZE = (1280, 360)
TITLE = "Efficient RetinaNet"
SUBTITLE = ("Object detection for a few hundred", "pictures and one graphics card.")
CAPTION = "drawn cards: the data set that comes with the program"

_FAN_RANKS = ("nine", "queen", "ace", "king", "jack")
_FAN_SUITS = ("clubs", "hearts", "spades", "diamonds", "clubs")
_FAN_WIDTH = 700
_FAN_RADIUS, _FAN_STEP = 490, math.radians(12.5)
_SCENE_SEEDS = (11, 13, 9, 23, 21)


def banner() -> Image.Image:
    """Name and purpose on the left, a fan of cards with their labels on the right."""
    width, height = BANNER_SIZE
    image = _felt(BANNER_SIZE)
    image.paste(_fan(image.crop((width - _FAN_WIDTH, 0, width, height))), (width - _FAN_WIDTH, 0))
    pen = ImageDraw.Draw(image)
    pen.text((56, 96), TITLE, fill="#F7F5EE", font=ImageFont.load_default(60))
    for y, line in zip((184, 218), SUBTITLE, strict=True):
        pen.text((60, y), line, fill="#C9D8D0", font=ImageFont.load_default(25))
    return image


def header() -> Image.Image:
    """A strip of scenes as the demo draws them, each with its labels, over a caption."""
    width, height = HEADER_SIZE
    image = Image.new("RGB", HEADER_SIZE, "#14231F")
    gap, bottom = 8, 52
    across = (width - gap * (len(_SCENE_SEEDS) + 1)) // len(_SCENE_SEEDS)
    size = (across, height - bottom - gap)
    for number, seed in enumerate(_SCENE_SEEDS):
        image.paste(_scene(seed, size), (gap + number * (across + gap), gap))
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(25)
    pen.text((width / 2, height - bottom / 2), CAPTION, fill="#E6EEE9", anchor="mm", font=font)
    return image


def _scene(seed: int, size: tuple[int, int]) -> Image.Image:
    # Drawn at twice the size: the grain of the camera averages out and the file stays small.
    rng = np.random.default_rng([7, seed])
    image, boxes, names = draw_scene(rng, (2 * size[0], 2 * size[1]))
    labels = [RANKS.index(name) + 1 for name in names]
    return draw_boxes(image.resize(size, Image.Resampling.BOX), (boxes / 2).tolist(), labels, names)


def _felt(size: tuple[int, int]) -> Image.Image:
    """A green ground, lit from the right; RGB."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    away = np.hypot((x - 0.74 * width) / (0.7 * width), (y - 0.4 * height) / (1.3 * height))
    light = np.clip(1 - away, 0, 1)[..., None] ** 1.3
    dark, bright = np.array((13, 32, 28)), np.array((34, 104, 82))
    return Image.fromarray((dark + (bright - dark) * light).astype(np.uint8))


def _fan(ground: Image.Image) -> Image.Image:
    """The cards laid on ``ground`` like a hand of cards, with a box around each."""
    image = ground.convert("RGB")
    pivot = np.array((ground.width / 2, 150 + _FAN_RADIUS))
    masks: list[np.ndarray] = []
    for number, (rank, suit) in enumerate(zip(_FAN_RANKS, _FAN_SUITS, strict=True)):
        angle = _FAN_STEP * (number - (len(_FAN_RANKS) - 1) / 2)
        layer = Image.new("RGBA", ground.size)
        face = draw_card(rank, suit, DeckStyle(), 2 * 190)
        turned = face.rotate(-math.degrees(angle), Image.Resampling.BICUBIC, expand=True)
        turned = turned.reduce(2)
        centre = pivot + _FAN_RADIUS * np.array((math.sin(angle), -math.cos(angle)))
        corner = np.rint(centre - np.array(turned.size) / 2).astype(int)
        layer.paste(turned, (int(corner[0]), int(corner[1])))
        alpha = layer.getchannel("A")
        shade = alpha.filter(ImageFilter.GaussianBlur(7)).point(lambda value: value * 0.55)
        image.paste((0, 0, 0), (-4, 5), shade)
        image.paste(layer, (0, 0), layer)
        visible = np.asarray(alpha) >= 128
        masks = [*(mask & ~visible for mask in masks), visible]
    labels = [RANKS.index(name) + 1 for name in _FAN_RANKS]
    return draw_boxes(image, [envelope(mask) for mask in masks], labels, _FAN_RANKS)


def dithered(image: Image.Image) -> Image.Image:
    """256 colours, those of the boxes among them: no thin box is tinted by what lies around it."""
    boxes = [channel for colour in COLOURS for channel in ImageColor.getrgb(colour)]
    rest = 256 - len(COLOURS)
    palette = Image.new("P", (1, 1))
    palette.putpalette((image.quantize(rest).getpalette() or [])[: 3 * rest] + boxes)
    return image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)


PICTURES: dict[str, Callable[[], Image.Image]] = {
    "banner.png": lambda: dithered(banner()),
    "header.png": lambda: dithered(header()),
}


if __name__ == "__main__":
    for name, make in PICTURES.items():
        path = Path(__file__).resolve().with_name(name)
        make().save(path, optimize=True)
        print(f"{path} {path.stat().st_size / 1000:.0f} kB")
