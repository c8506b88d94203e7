"""Scenes with playing cards: cards laid on a ground, things around and over them, light, camera.

A card is laid as a plane seen by a pinhole camera, so all cards of one scene share the tilt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from data.drawn_cards.camera import area, inside_points, outline_mask, photograph, sheen, warp
from data.drawn_cards.card import CARD_HEIGHT_MM, CARD_WIDTH_MM, RANKS, SUITS, DeckStyle, draw_card
from data.drawn_cards.clutter import THINGS
from data.drawn_cards.grounds import ground
from data.drawn_cards.signs import as_points
from data.drawn_cards.style import SceneStyle

Rng = np.random.Generator

_FACE_HEIGHT = 352
_VISIBLE_ALPHA = 128
# Both indices and the centre, in shares of the card: one of them must stay visible.
_TELLING_POINTS = np.array([(0.09, 0.10), (0.91, 0.90), (0.5, 0.5)])


@dataclass(frozen=True)
class _Laid:
    """A card on the table. visible: bool (H, W) of the scene. area: of the whole outline, pixels.
    points: (3, 2) telling points in scene pixels."""

    name: str
    visible: np.ndarray
    area: float
    points: np.ndarray

    def covered_by(self, mask: np.ndarray) -> _Laid:
        return replace(self, visible=self.visible & ~mask)

    def tells(self, max_hidden: float, outside: float) -> bool:
        """Whether enough is seen of it to ask for its rank."""
        if self.visible.sum() < (1 - max(max_hidden, outside)) * self.area:
            return False
        height, width = self.visible.shape
        x, y = np.floor(self.points).astype(int).T
        inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
        return bool(self.visible[y[inside], x[inside]].any())

    def box(self) -> tuple[int, int, int, int]:
        """The visible part's tight envelope, xyxy, pixels."""
        columns = np.flatnonzero(self.visible.any(axis=0))
        rows = np.flatnonzero(self.visible.any(axis=1))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@dataclass(frozen=True)
class _Camera:
    """Tilt of the table: direction of its axis and angle, both in radians."""

    axis: float
    tilt: float

    def project(self, points: np.ndarray, distance: float) -> np.ndarray:
        """Points of the table (N, 2), relative to the point looked at, in picture pixels."""
        c, s = math.cos(self.axis), math.sin(self.axis)
        along, across = points @ (c, s), points @ (-s, c)
        depth = 1 + across * math.sin(self.tilt) / distance
        along, across = along / depth, across * math.cos(self.tilt) / depth
        return np.stack([along * c - across * s, along * s + across * c], axis=1)


@lru_cache(maxsize=1024)
def _face(deck: int, rank: str, suit: str) -> Image.Image:
    style = DeckStyle.random(np.random.default_rng([7, deck]))
    return draw_card(rank, suit, style, _FACE_HEIGHT)


def draw_scene(rng: Rng, style: SceneStyle) -> tuple[Image.Image, np.ndarray, tuple[str, ...]]:
    """One picture: RGB image, boxes float32 (N, 4) xyxy in its pixels, N names of RANKS; N >= 1.

    A box is the tight envelope of the visible part of a card. Everything follows from ``rng``.
    """
    table = _Table(rng, style)
    table.scatter_things()
    table.lay_cards()
    table.cover()
    image = photograph(rng, table.image, style.blur, style.noise, style.light)
    boxes = np.array([card.box() for card in table.cards], dtype=np.float32).reshape(-1, 4)
    return image, boxes, tuple(card.name for card in table.cards)


class _Table:
    """The scene while it is laid."""

    def __init__(self, rng: Rng, style: SceneStyle) -> None:
        self.rng, self.style = rng, style
        self.size = style.sizes[rng.integers(len(style.sizes))]
        self.image = ground(rng, self.size, style.grounds, style.seam)
        self.cards: list[_Laid] = []
        self.short = min(self.size)
        low, high = style.card_width
        share = np.array(style.cards) / sum(style.cards)
        self.count = 1 + int(rng.choice(len(share), p=share))
        crowd = min(1.0, 1.25 / math.sqrt(self.count))
        self.card_width = self.short * rng.uniform(low, max(low, low + (high - low) * crowd))
        self.camera = _Camera(
            rng.uniform(0, 2 * math.pi), math.radians(style.tilt) * rng.uniform(0, 1) ** 1.5
        )
        light = rng.uniform(0, 2 * math.pi)
        self.shadow = np.array((math.cos(light), math.sin(light))) * rng.uniform(0.005, 0.04)
        self.shadow_depth = rng.uniform(0.2, 0.7)

    def quad(self, centre: np.ndarray, width: float, height: float, angle: float) -> np.ndarray:
        """Picture corners (4, 2) of a rectangle on the table, from its upper left, clockwise."""
        corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (width / 2, height / 2)
        c, s = math.cos(angle), math.sin(angle)
        turned = corners @ np.array([(c, s), (-s, c)])
        middle = np.array(self.size) / 2
        return self.camera.project(turned + centre - middle, 1.6 * max(self.size)) + middle

    def lay(self, sprite: Image.Image, quad: np.ndarray, lift: float) -> np.ndarray:
        """Paste a sprite with its shadow; returns its mask, bool (H, W)."""
        colour, mask = warp(sprite, quad, self.size)
        if not mask.getbbox():
            return np.zeros(self.size[::-1], dtype=bool)
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
        for _ in range(int(self.rng.integers(0, self.style.things + 1))):
            self._thing(self.rng.uniform((0, 0), self.size))

    def _thing(self, centre: np.ndarray) -> None:
        make, low, high = THINGS[self.rng.integers(len(THINGS))]
        sprite = make(self.rng)
        height = self.rng.uniform(low, high) * self.card_width * CARD_HEIGHT_MM / CARD_WIDTH_MM
        width = height * sprite.width / sprite.height
        quad = self.quad(centre, width, height, self.rng.uniform(0, 2 * math.pi))
        self.lay(sprite, quad, self.rng.uniform(0.01, 0.04))

    def lay_cards(self) -> None:
        deck = int(self.rng.integers(self.style.decks))
        anyhow = self.rng.random() < self.style.any_rotation
        overlapping = self.rng.random() < self.style.overlapping
        for attempt in range(60):
            if len(self.cards) == self.count:
                return
            if attempt % 12 == 11:
                self.card_width *= 0.9
            self._try_card(deck, self._angle(anyhow), overlapping)
        if not self.cards:
            self._lay_card(deck, np.array(self.size) / 2, 0.0)

    def _angle(self, anyhow: bool) -> float:
        if anyhow:
            return self.rng.uniform(0, 2 * math.pi)
        turn = self.rng.uniform(-self.style.rotation, self.style.rotation)
        return math.radians(turn + 180 * self.rng.integers(2))

    def _try_card(self, deck: int, angle: float, overlapping: bool) -> None:
        margin = self.card_width * 0.3
        centre = self.rng.uniform((margin, margin), np.array(self.size) - margin)
        if overlapping and self.cards:
            near = self.cards[-1].points[2]
            away = self.rng.uniform(0, 2 * math.pi)
            reach = self.rng.uniform(0.4, 1.2) * self.card_width
            centre = near + reach * np.array((math.cos(away), math.sin(away)))
        self._lay_card(deck, centre, angle)

    def _lay_card(self, deck: int, centre: np.ndarray, angle: float) -> None:
        """Lay a card unless it, or one that it covers, would be hidden too much."""
        rank = RANKS[self.rng.integers(len(RANKS))]
        suit = SUITS[self.rng.integers(len(SUITS))]
        width = self.card_width * self.rng.uniform(0.97, 1.03)
        quad = self.quad(centre, width, width * CARD_HEIGHT_MM / CARD_WIDTH_MM, angle)
        outline = outline_mask(quad, self.size)
        card = _Laid(rank, outline, area(quad), inside_points(quad, _TELLING_POINTS))
        limits = self.style.max_hidden, 0.0
        if not card.tells(0.0, self.style.outside):
            return
        if not all(other.covered_by(outline).tells(*limits) for other in self.cards):
            return
        face = _face(deck, rank, suit)
        if self.rng.random() < 0.3 * self.style.light:
            face = sheen(self.rng, face)
        mask = self.lay(face, quad, self.rng.uniform(0.005, 0.03))
        self.cards = [other.covered_by(mask) for other in self.cards]
        self.cards.append(replace(card, visible=mask))

    def cover(self) -> None:
        """Fingers, cords and other things over the cards, as far as the rule allows."""
        for _ in range(int(self.rng.integers(0, self.style.covers + 1))):
            self._hand() if self.rng.random() < 0.6 else self._cord()

    def _hand(self) -> None:
        card = self.cards[self.rng.integers(len(self.cards))]
        away = self.rng.uniform(0, 2 * math.pi)
        direction = np.array((math.cos(away), math.sin(away)))
        across = np.array((-direction[1], direction[0]))
        thick = self.card_width * self.rng.uniform(0.24, 0.32)
        tip = card.points[2] + direction * self.card_width * self.rng.uniform(0.45, 0.8)
        layer = Image.new("L", self.size, 0)
        draw = ImageDraw.Draw(layer)
        for i in range(int(self.rng.integers(2, 5))):
            start = tip + across * thick * 1.05 * i + direction * thick * self.rng.uniform(0, 0.5)
            end = start + direction * max(self.size)
            draw.line(as_points(np.array((start, end))), fill=255, width=round(thick))
            r = thick / 2
            draw.ellipse((start[0] - r, start[1] - r, start[0] + r, start[1] + r), fill=255)
        skin = np.array((224, 172, 140)) * self.rng.uniform(0.45, 1.1)
        self._drape(layer, skin, rounded=thick / 5)

    def _cord(self) -> None:
        points = self.rng.uniform((-0.2, -0.2), (1.2, 1.2), (4, 2)) * self.size
        t = np.linspace(0, 1, 40)[:, None]
        curve = (
            (1 - t) ** 3 * points[0]
            + 3 * (1 - t) ** 2 * t * points[1]
            + 3 * (1 - t) * t**2 * points[2]
            + t**3 * points[3]
        )
        layer = Image.new("L", self.size, 0)
        width = max(2, round(self.card_width * self.rng.uniform(0.03, 0.08)))
        ImageDraw.Draw(layer).line(as_points(curve), fill=255, width=width, joint="curve")
        shade = int(self.rng.integers(10, 70) if self.rng.random() < 0.7 else 225)
        self._drape(layer, np.full(3, shade), rounded=width / 4)

    def _drape(self, layer: Image.Image, colour: np.ndarray, rounded: float) -> None:
        """Lay a plain thing of some thickness over the scene, unless it would hide a card."""
        mask = np.asarray(layer) >= _VISIBLE_ALPHA
        covered = [card.covered_by(mask) for card in self.cards]
        if not all(
            card.tells(max(self.style.max_hidden, self.style.outside), 0.0) for card in covered
        ):
            return
        self.cards = covered
        soft = np.asarray(layer.filter(ImageFilter.GaussianBlur(rounded)), dtype=np.float32) / 255
        shade = np.asarray(layer.filter(ImageFilter.GaussianBlur(rounded * 3)), dtype=np.float32)
        pixels = np.asarray(self.image, dtype=np.float32) * (1 - 0.5 * shade / 255)[..., None]
        body = colour.astype(np.float32) * (0.45 + 0.6 * soft**2)[..., None]
        alpha = np.asarray(layer.filter(ImageFilter.GaussianBlur(0.6)), dtype=np.float32) / 255
        pixels += (body - pixels) * alpha[..., None]
        self.image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
