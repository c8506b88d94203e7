"""The banner with its fan of cards and the strip of drawn scenes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from data.drawn_cards.demo_cards import DEMO, RANKS, DeckStyle, draw_card, draw_scene
from utils.visualisation import draw_boxes

BANNER_SIZE = (1280, 320)
HEADER_SIZE = (1280, 360)
TITLE = "Efficient RetinaNet"
SUBTITLE = "Object detection for a few hundred pictures and one graphics card."
CAPTION = "drawn cards: the data set that comes with the program"

_FAN = (
    ("nine", "clubs"),
    ("queen", "hearts"),
    ("ace", "spades"),
    ("king", "diamonds"),
    ("jack", "clubs"),
)
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
    first, second = SUBTITLE.split(" pictures ")
    font = ImageFont.load_default(25)
    pen.text((60, 184), first, fill="#C9D8D0", font=font)
    pen.text((60, 218), f"pictures {second}", fill="#C9D8D0", font=font)
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
    pen = ImageDraw.Draw(image)
    pen.text(
        (width / 2, height - bottom / 2),
        CAPTION,
        fill="#E6EEE9",
        anchor="mm",
        font=ImageFont.load_default(25),
    )
    return image


def _scene(seed: int, size: tuple[int, int]) -> Image.Image:
    # Drawn at twice the size: the grain of the camera averages out and the file stays small.
    style = replace(DEMO, name="header", sizes=((2 * size[0], 2 * size[1]),))
    image, boxes, names = draw_scene(np.random.default_rng([7, seed]), style)
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
    """The cards laid on ``ground`` like a hand of cards, with boxes around what is seen of each."""
    image = ground.convert("RGB")
    pivot = np.array((ground.width / 2, 150 + _FAN_RADIUS))
    masks: list[np.ndarray] = []
    for number, (rank, suit) in enumerate(_FAN):
        angle = _FAN_STEP * (number - (len(_FAN) - 1) / 2)
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
        seen = np.asarray(alpha) >= 128
        masks = [mask & ~seen for mask in masks]
        masks.append(seen)
    names = [rank for rank, _ in _FAN]
    labels = [RANKS.index(name) + 1 for name in names]
    return draw_boxes(image, [_envelope(mask) for mask in masks], labels, names)


def _envelope(mask: np.ndarray) -> tuple[int, int, int, int]:
    """xyxy, pixels, of the true part of a bool (H, W) mask."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
