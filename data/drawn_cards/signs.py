"""The signs of a card as shapes: the four suits, and the index's letters with slab serifs."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise

import numpy as np
from PIL import ImageDraw

SUITS = ("clubs", "diamonds", "hearts", "spades")

Colour = tuple[int, int, int]
Palette = tuple[Colour, Colour, Colour, Colour]  # red, blue, yellow, black
Point = tuple[float, float]


def _arc(x: float, y: float, rx: float, ry: float, start: float, end: float) -> list[Point]:
    """Points of an ellipse's arc around (x, y); angles in degrees, 0 to the right, clockwise."""
    angles = [math.radians(start + (end - start) * i / 24) for i in range(25)]
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


# Index letters as polylines in the unit square, y down.
STROKES: dict[str, list[list[Point]]] = {
    "A": [
        [(0.1, 1), (0.5, 0), (0.9, 1)],
        [(0.26, 0.66), (0.74, 0.66)],
        [(-0.02, 1), (0.26, 1)],
        [(0.74, 1), (1.02, 1)],
    ],
    "J": [[(0.68, 0)] + _arc(0.38, 0.7, 0.3, 0.3, 0, 180), [(0.42, 0), (0.94, 0)]],
    "K": [
        [(0.18, 0), (0.18, 1)],
        [(0.84, 0), (0.18, 0.62)],
        [(0.38, 0.44), (0.86, 1)],
        [(0.0, 0), (0.36, 0)],
        [(0.0, 1), (0.36, 1)],
        [(0.66, 0), (1, 0)],
        [(0.68, 1), (1, 1)],
    ],
    "Q": [_arc(0.5, 0.5, 0.4, 0.5, 0, 360), [(0.5, 0.7), (0.92, 1.06)]],
    "9": [_arc(0.5, 0.3, 0.36, 0.3, 0, 360), [(0.86, 0.3)] + _arc(0.48, 0.66, 0.38, 0.34, 0, 150)],
    "1": [[(0.28, 0.16), (0.56, 0), (0.56, 1)], [(0.3, 1), (0.8, 1)]],
    "0": [_arc(0.5, 0.5, 0.34, 0.5, 0, 360)],
}


def as_points(array: np.ndarray) -> list[Point]:
    """An (N, 2) array as Pillow's drawing functions take it."""
    return [(float(x), float(y)) for x, y in array]


@lru_cache(maxsize=8)
def suit_shape(suit: str) -> tuple[np.ndarray, ...]:
    """Polygons, each (P, 2), whose union is the suit in the square -0.5..0.5, y down."""
    t = np.linspace(0, 2 * math.pi, 72)
    heart_y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    heart = np.stack([np.sin(t) ** 3 * 0.48, (heart_y - 2.5) / 29.0], axis=1)
    if suit == "hearts":
        return (heart,)
    if suit == "diamonds":
        return (_diamond(),)
    if suit == "spades":
        return heart * (1.0, -0.86) + (0.0, -0.07), _stem()
    circle = np.stack([np.cos(t), np.sin(t)], axis=1) * 0.225
    lobes = [circle + centre for centre in ((0, -0.275), (-0.265, 0.075), (0.265, 0.075))]
    core = np.array([(-0.1, -0.2), (0.1, -0.2), (0.2, 0.15), (-0.2, 0.15)])
    return (*lobes, core, _stem())


def _diamond() -> np.ndarray:
    corners = np.array([(0, -0.5), (0.4, 0), (0, 0.5), (-0.4, 0), (0, -0.5)])
    s = np.linspace(0, 1, 8)[:, None]
    bend = 1 - 0.16 * s * (1 - s)
    return np.concatenate([(a * (1 - s) + b * s) * bend for a, b in pairwise(corners)])


def _stem() -> np.ndarray:
    s = np.linspace(0, 1, 10)
    right = np.stack([0.035 + 0.18 * s**3, 0.1 + 0.4 * s], axis=1)
    return np.concatenate([right, right[::-1] * (-1, 1)])


def draw_suit(
    draw: ImageDraw.ImageDraw, suit: str, centre: Point, size: float, fill: int | Colour
) -> None:
    """A suit sign ``size`` pixels high around ``centre``; a negative size: upside down."""
    for polygon in suit_shape(suit):
        draw.polygon(as_points(polygon * size + centre), fill=fill)
