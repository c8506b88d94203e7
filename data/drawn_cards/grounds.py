"""What the cards of a drawn scene lie on: wood, carpet, cloth, felt, tiles or one colour.

A ground is float32 (height, width, 3), about 0..255, made of a few smoothly enlarged random grids.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from data.drawn_cards.clutter import thing_colour

Rng = np.random.Generator


def smooth_noise(rng: Rng, size: tuple[int, int], cells: tuple[int, int]) -> np.ndarray:
    """Random hills, float32 (height, width) about 0..1, ``cells`` (across, down) of them."""
    coarse = rng.random((cells[1] + 1, cells[0] + 1), dtype=np.float32)
    return np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))


def _ramp(t: np.ndarray, low: ArrayLike, high: ArrayLike) -> np.ndarray:
    t = np.clip(t, 0, 1)[..., None].astype(np.float32)
    return _colour(low) * (1 - t) + _colour(high) * t


def _colour(values: ArrayLike) -> np.ndarray:
    return np.asarray(values, dtype=np.float32)


def _turned_grid(rng: Rng, size: tuple[int, int], bend: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates along and across a random direction, in shares of the long side, bent a bit."""
    angle = rng.uniform(0, math.pi)
    y, x = np.mgrid[0 : size[1], 0 : size[0]].astype(np.float32) / max(size)
    u = x * math.cos(angle) + y * math.sin(angle)
    v = y * math.cos(angle) - x * math.sin(angle)
    return u, v + bend * smooth_noise(rng, size, (4, 4))


def _profile(rng: Rng, position: np.ndarray, cells: int) -> np.ndarray:
    """A random 0..1 profile of ``cells`` knots looked up at ``position`` (repeats every 1)."""
    knots = rng.random(cells, dtype=np.float32)
    fine = np.interp(np.arange(1024) / 1024 * cells, np.arange(cells + 1), [*knots, knots[0]])
    return fine.astype(np.float32)[(position * 1024).astype(np.int32) % 1024]


_WOODS = (
    ((48, 24, 12), (150, 86, 44)),
    ((92, 46, 24), (150, 82, 48)),
    ((120, 78, 44), (206, 160, 108)),
    ((58, 40, 30), (180, 150, 124)),
    ((70, 30, 18), (118, 56, 34)),
    ((164, 130, 92), (224, 196, 156)),
)


def _wood(rng: Rng, size: tuple[int, int]) -> np.ndarray:
    _, v = _turned_grid(rng, size, rng.uniform(0.02, 0.16))
    streaks = _profile(rng, v * rng.uniform(0.8, 2.0), 60)
    fine = _profile(rng, v * 2.3 + 0.01 * smooth_noise(rng, size, (24, 24)), 400)
    broken = smooth_noise(rng, size, (9, 9))
    low, high = _WOODS[rng.integers(len(_WOODS))]
    contrast = rng.uniform(0.35, 1.0)
    t = 0.5 + contrast * ((0.5 * streaks + 0.3 * fine + 0.2 * broken) - 0.5) * 1.7
    if rng.random() < 0.25:
        plank = np.floor(v * rng.uniform(4, 9))
        t = t + 0.2 * (np.sin(plank * 12.9) ** 2 - 0.5)
    return _ramp(t, low, high)


_CARPETS = (
    ((84, 72, 58), (186, 170, 146)),
    ((110, 98, 82), (196, 182, 160)),
    ((70, 70, 74), (150, 150, 152)),
    ((96, 44, 40), (160, 96, 84)),
    ((46, 52, 60), (104, 110, 120)),
    ((128, 112, 84), (214, 196, 160)),
)


def _carpet(rng: Rng, size: tuple[int, int]) -> np.ndarray:
    tuft = rng.uniform(2.0, 6.0)
    cells = (int(size[0] / tuft), int(size[1] / tuft))
    t = (
        0.6 * smooth_noise(rng, size, cells)
        + 0.25 * rng.random(size[::-1], dtype=np.float32)
        + 0.3 * smooth_noise(rng, size, (5, 5))
        - 0.08
    )
    return _ramp(t, *_CARPETS[rng.integers(len(_CARPETS))])


def _cloth(rng: Rng, size: tuple[int, int]) -> np.ndarray:
    """Dark or plain cloth whose folds are shaded as if lit from one side."""
    base = _colour(thing_colour(rng, 0.4))
    if rng.random() < 0.4:
        base = _colour((34, 34, 44)) * rng.uniform(0.6, 1.5)
    folds = np.zeros(size[::-1], dtype=np.float32)
    for cells, height in ((3, 5.0), (7, 2.0), (14, 0.3)):
        wide = (int(rng.integers(2, cells + 1)), cells)
        folds += height * np.abs(smooth_noise(rng, size, wide) - 0.5)
    down, right = np.gradient(folds * max(size) / 40)
    angle = rng.uniform(0, 2 * math.pi)
    slope = right * math.cos(angle) + down * math.sin(angle)
    weave = 0.16 * (rng.random(size[::-1], dtype=np.float32) - 0.5)
    light = 0.95 + rng.uniform(0.4, 1.3) * np.tanh(3 * slope) * 0.5 + weave
    return base * light[..., None] + 6


def _tiles(rng: Rng, size: tuple[int, int]) -> np.ndarray:
    """Bricks, tiles or a checker: cells in rows, each with its own shade, and joints."""
    u, v = _turned_grid(rng, size, 0.0)
    rows, ratio = rng.uniform(3, 9), rng.choice([1.0, 1.0, 2.0, 2.6])
    row = np.floor(v * rows)
    shifted = u * rows / ratio + (0.5 * (row % 2) if ratio > 1 else 0)
    column = np.floor(shifted)
    shade = rng.random(509, dtype=np.float32)[((row * 31 + column * 17) % 509).astype(np.int32)]
    if rng.random() < 0.25:
        shade = (row + column) % 2
    base = _colour(((150, 84, 62), thing_colour(rng, 0.4))[rng.integers(2)])
    low = np.clip(base - rng.uniform(20, 90), 0, 255)
    ground = _ramp(shade, low, base)
    ground *= (0.8 + 0.4 * smooth_noise(rng, size, (size[0] // 5, size[1] // 5)))[..., None]
    joint = np.minimum(_to_edge(v * rows), _to_edge(shifted) * ratio) < rng.uniform(0.02, 0.07)
    ground[joint] = rng.uniform(70, 210)
    return ground


def _to_edge(x: np.ndarray) -> np.ndarray:
    share = x - np.floor(x)
    return np.minimum(share, 1 - share)


def _plain(rng: Rng, size: tuple[int, int]) -> np.ndarray:
    """A wall or table top of one colour."""
    first = _colour(thing_colour(rng, 0.6))
    second = first * rng.uniform(0.75, 1.25) + rng.uniform(-10, 10, 3)
    u, _ = _turned_grid(rng, size, 0.1)
    return _ramp((u - u.min()) / np.ptp(u), first, second)


def _felt(rng: Rng, size: tuple[int, int]) -> np.ndarray:
    base = _colour(((24, 104, 58), (20, 84, 70), (30, 60, 120), (130, 26, 36))[rng.integers(4)])
    base = base * rng.uniform(0.8, 1.25)
    light = 0.75 + 0.25 * rng.random(size[::-1], dtype=np.float32)
    return base * (light + 0.25 * smooth_noise(rng, size, (3, 3)))[..., None]


# Each with how often it is drawn.
_GROUNDS: tuple[tuple[Callable[[Rng, tuple[int, int]], np.ndarray], int], ...] = (
    (_carpet, 2),
    (_cloth, 2),
    (_felt, 2),
    (_plain, 2),
    (_tiles, 1),
    (_wood, 3),
)


def ground(rng: Rng, size: tuple[int, int]) -> Image.Image:
    """A table, floor or cloth: RGB, ``size`` (width, height)."""
    share = np.array([often for _, often in _GROUNDS]) / sum(often for _, often in _GROUNDS)
    # The second number and the last draw are unused; without them all later draws, and so the
    # pictures, would change.
    chosen, _ = rng.choice(len(_GROUNDS), size=2, p=share)
    pixels = _GROUNDS[chosen][0](rng, size)
    rng.random()
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
