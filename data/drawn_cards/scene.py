"""Scenes with playing cards: cards laid on a ground, other things around them, light, camera.

A card is laid as a plane seen by a pinhole camera, so all cards of one scene share the tilt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

from data.drawn_cards.camera import area, inside_points, outline_mask, photograph, sheen, warp
from data.drawn_cards.card import CARD_HEIGHT_MM, CARD_WIDTH_MM, RANKS, DeckStyle, draw_card
from data.drawn_cards.clutter import THINGS
from data.drawn_cards.grounds import ground
from data.drawn_cards.signs import SUITS

Rng = np.random.Generator

SIZE = (384, 288)
_DECKS = 6
_MOST_THINGS = 2
# How often 1, 2 and 3 cards are laid.
_COUNTS = np.array((0.4, 0.4, 0.2))
# A card's short side, in shares of the scene's.
_NARROWEST, _WIDEST = 0.33, 0.43
# Largest angle, in degrees, of a card from upright or upside down, and of the camera from the
# table's normal.
_LARGEST_ANGLE, _LARGEST_TILT = 25, 12
_OVERLAPPING = 0.1
# Largest share of a card that another may hide, and that may lie beyond the image.
_MOST_HIDDEN, _MOST_OUTSIDE = 0.12, 0.1
_FACE_HEIGHT = 352
_VISIBLE_ALPHA = 128
# Both indices and the centre, in shares of the card: one of them must stay visible.
_IDENTIFYING_POINTS = np.array([(0.09, 0.10), (0.91, 0.90), (0.5, 0.5)])


@dataclass(frozen=True)
class LaidCard:
    """A card on the table. visible: bool (H, W) of the scene. area: of the whole outline, pixels.
    points: (3, 2), both indices and the centre in scene pixels."""

    name: str
    visible: np.ndarray
    area: float
    points: np.ndarray

    def covered_by(self, mask: np.ndarray) -> LaidCard:
        return replace(self, visible=self.visible & ~mask)

    def is_recognisable(self, most_hidden: float) -> bool:
        """Whether at most that share is hidden and an index or the centre is visible."""
        if self.visible.sum() < (1 - most_hidden) * self.area:
            return False
        height, width = self.visible.shape
        x, y = np.floor(self.points).astype(int).T
        inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
        return bool(self.visible[y[inside], x[inside]].any())

    def box(self) -> tuple[int, int, int, int]:
        """The visible part's tight envelope, xyxy, pixels."""
        return envelope(self.visible)


def envelope(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The box (xyxy, pixels) around the pixels of a bool (H, W) mask."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@lru_cache(maxsize=1024)
def _face(deck: int, rank: str, suit: str) -> Image.Image:
    return draw_card(rank, suit, DeckStyle.random(np.random.default_rng([7, deck])), _FACE_HEIGHT)


def draw_scene(
    rng: Rng, size: tuple[int, int] = SIZE
) -> tuple[Image.Image, np.ndarray, tuple[str, ...]]:
    """An RGB image of ``size`` (width, height), boxes float32 (N, 4) xyxy in its pixels, N ranks.

    A box is the tight envelope of the visible part of a card; N >= 1. All follows from ``rng``.
    """
    table = Table(rng, size)
    table.scatter_things()
    table.lay_cards()
    image = photograph(rng, table.image)
    boxes = np.array([card.box() for card in table.cards], dtype=np.float32).reshape(-1, 4)
    return image, boxes, tuple(card.name for card in table.cards)


class Table:
    """The scene while it is laid. size: (width, height) of the image, pixels.

    axis, tilt: radians, the direction about which the table is tilted, and by how much.
    """

    def __init__(self, rng: Rng, size: tuple[int, int]) -> None:
        self.rng, self.size = rng, size
        self.image = ground(rng, size)
        self.cards: list[LaidCard] = []
        self.count = 1 + int(rng.choice(len(_COUNTS), p=_COUNTS))
        crowd = min(1.0, 1.25 / math.sqrt(self.count))
        widest = _NARROWEST + (_WIDEST - _NARROWEST) * crowd
        self.card_width = min(size) * rng.uniform(_NARROWEST, widest)
        self.axis = rng.uniform(0, 2 * math.pi)
        self.tilt = math.radians(_LARGEST_TILT) * rng.uniform(0, 1) ** 1.5
        light = rng.uniform(0, 2 * math.pi)
        self.shadow = np.array((math.cos(light), math.sin(light))) * rng.uniform(0.005, 0.04)
        self.shadow_depth = rng.uniform(0.2, 0.7)

    def quad(self, centre: np.ndarray, width: float, height: float, angle: float) -> np.ndarray:
        """Picture corners (4, 2) of a rectangle on the table, from its upper left, clockwise."""
        corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (width / 2, height / 2)
        c, s = math.cos(angle), math.sin(angle)
        turned = corners @ np.array([(c, s), (-s, c)])
        middle = np.array(self.size) / 2
        return self._project(turned + centre - middle) + middle

    def _project(self, points: np.ndarray) -> np.ndarray:
        """Points of the table (N, 2) as the camera sees them, both relative to the middle."""
        c, s = math.cos(self.axis), math.sin(self.axis)
        along, across = points @ (c, s), points @ (-s, c)
        depth = 1 + across * math.sin(self.tilt) / (1.6 * max(self.size))
        along, across = along / depth, across * math.cos(self.tilt) / depth
        return np.stack([along * c - across * s, along * s + across * c], axis=1)

    def lay(self, sprite: Image.Image, quad: np.ndarray, lift: float) -> np.ndarray:
        """Paste a sprite with its shadow; returns its mask, bool (H, W)."""
        colour, mask = warp(sprite, quad, self.size)
        small = mask.reduce(2).filter(ImageFilter.GaussianBlur(self.card_width * lift))
        dx, dy = self.shadow * self.card_width * (1 + 20 * lift)
        shade = (
            small.resize(self.size, Image.Resampling.BILINEAR)
            .transform(self.size, Image.Transform.AFFINE, (1, 0, -dx, 0, 1, -dy))
            .point(lambda value: int(value * self.shadow_depth))
        )
        self.image.paste((0, 0, 0), (0, 0), shade)
        self.image.paste(colour, (0, 0), mask)
        return np.asarray(mask) >= _VISIBLE_ALPHA

    def scatter_things(self) -> None:
        for _ in range(int(self.rng.integers(0, _MOST_THINGS + 1))):
            centre = self.rng.uniform((0, 0), self.size)
            make, low, high = THINGS[self.rng.integers(len(THINGS))]
            sprite = make(self.rng)
            height = self.rng.uniform(low, high) * self.card_width * CARD_HEIGHT_MM / CARD_WIDTH_MM
            width = height * sprite.width / sprite.height
            quad = self.quad(centre, width, height, self.rng.uniform(0, 2 * math.pi))
            self.lay(sprite, quad, self.rng.uniform(0.01, 0.04))

    def lay_cards(self) -> None:
        deck = int(self.rng.integers(_DECKS))
        self.rng.random()  # unused; without it all later draws, and so the pictures, would change
        overlapping = self.rng.random() < _OVERLAPPING
        for attempt in range(60):
            if len(self.cards) == self.count:
                return
            if attempt % 12 == 11:
                self.card_width *= 0.9
            self._try_card(deck, self._angle(), overlapping)
        if not self.cards:
            self._lay_card(deck, np.array(self.size) / 2, 0.0)

    def _angle(self) -> float:
        degrees = self.rng.uniform(-_LARGEST_ANGLE, _LARGEST_ANGLE)
        return math.radians(degrees + 180 * self.rng.integers(2))

    def _try_card(self, deck: int, angle: float, overlapping: bool) -> None:
        margin = self.card_width * 0.3
        centre = self.rng.uniform((margin, margin), np.array(self.size) - margin)
        if overlapping and self.cards:
            away = self.rng.uniform(0, 2 * math.pi)
            reach = self.rng.uniform(0.4, 1.2) * self.card_width
            centre = self.cards[-1].points[2] + reach * np.array((math.cos(away), math.sin(away)))
        self._lay_card(deck, centre, angle)

    def _lay_card(self, deck: int, centre: np.ndarray, angle: float) -> None:
        """Lay a card unless it, or one that it covers, would be hidden too much."""
        rank = RANKS[self.rng.integers(len(RANKS))]
        suit = SUITS[self.rng.integers(len(SUITS))]
        width = self.card_width * self.rng.uniform(0.97, 1.03)
        quad = self.quad(centre, width, width * CARD_HEIGHT_MM / CARD_WIDTH_MM, angle)
        outline = outline_mask(quad, self.size)
        card = LaidCard(rank, outline, area(quad), inside_points(quad, _IDENTIFYING_POINTS))
        if not card.is_recognisable(_MOST_OUTSIDE):
            return
        covered = [other.covered_by(outline) for other in self.cards]
        if not all(other.is_recognisable(_MOST_HIDDEN) for other in covered):
            return
        face = _face(deck, rank, suit)
        if self.rng.random() < 0.15:
            face = sheen(self.rng, face)
        mask = self.lay(face, quad, self.rng.uniform(0.005, 0.03))
        self.cards = [other.covered_by(mask) for other in self.cards]
        self.cards.append(replace(card, visible=mask))
