"""The camera of a drawn scene: how flat things look from it, and what light and lens do.

Pillow's PERSPECTIVE transform and the homography behind it: Hartley and Zisserman, "Multiple View
Geometry", section 2.3.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from data.drawn_cards.grounds import smooth_noise
from data.drawn_cards.signs import as_points

Rng = np.random.Generator

_RIM = 2
_LARGEST_BLUR = 0.6  # radius in pixels of an image 384 long
_LARGEST_NOISE = 6  # standard deviation, 0..255


def warp(
    sprite: Image.Image, quad: np.ndarray, size: tuple[int, int]
) -> tuple[Image.Image, Image.Image]:
    """A sprite (RGBA) seen as ``quad`` (4, 2), corners in pixels from its upper left, clockwise.

    Returns its colours (RGB) and its mask (L), both of ``size`` (width, height).
    """
    seen = max(1.0, float(np.hypot(*(quad[3] - quad[0]))), float(np.hypot(*(quad[2] - quad[1]))))
    factor = int(sprite.height / seen)
    if factor > 1:
        sprite = sprite.reduce(factor)
    w, h = sprite.size
    # A transparent rim of the sprite's own colour: the mask fades out over the edge instead of
    # ending in steps, and no foreign colour shines through.
    r, g, b, _ = np.asarray(sprite)[0, 0].tolist()
    padded = Image.new("RGBA", (w + 2 * _RIM, h + 2 * _RIM), (r, g, b, 0))
    padded.paste(sprite, (_RIM, _RIM))
    corners = np.array([(0, 0), (w, 0), (w, h), (0, h)]) + _RIM
    seen_as = homography(quad, corners)
    perspective = Image.Transform.PERSPECTIVE
    colour = padded.convert("RGB").transform(size, perspective, seen_as, Image.Resampling.BICUBIC)
    mask = padded.getchannel("A").transform(size, perspective, seen_as, Image.Resampling.BILINEAR)
    return colour, mask


def homography(source: np.ndarray, target: np.ndarray) -> tuple[float, ...]:
    """The eight coefficients that map four ``source`` points to ``target``, as Pillow has them."""
    rows = []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [(x, y, 1, 0, 0, 0, -u * x, -u * y), (0, 0, 0, x, y, 1, -v * x, -v * y)]
    return tuple(np.linalg.solve(np.array(rows, dtype=float), np.ravel(target).astype(float)))


def inside_points(quad: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Picture points (N, 2) of positions given in shares of a card."""
    a, b, c, d, e, f, g, h = homography(np.array([(0, 0), (1, 0), (1, 1), (0, 1)]), quad)
    x, y = shares.T
    depth = g * x + h * y + 1
    return np.stack([(a * x + b * y + c) / depth, (d * x + e * y + f) / depth], axis=1)


def outline_mask(quad: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).polygon(as_points(quad), fill=255)
    return np.asarray(mask) > 0


def area(quad: np.ndarray) -> float:
    x, y = quad.T
    return 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))


def sheen(rng: Rng, sprite: Image.Image) -> Image.Image:
    """The sprite with a lamp mirrored in one part of it, as on coated cards."""
    ramp = Image.linear_gradient("L").rotate(rng.choice([0, 90, 180, 270])).resize(sprite.size)
    strength = rng.uniform(0.2, 0.6)
    glare = ramp.point(lambda value: int(strength * max(0, 2 * value - 255)))
    white = Image.new("RGB", sprite.size, (255, 255, 255))
    shining = Image.composite(white, sprite.convert("RGB"), glare)
    shining.putalpha(sprite.getchannel("A"))
    return shining


def photograph(rng: Rng, image: Image.Image) -> Image.Image:
    """Light and camera: gradients, hard shadows, colour cast, exposure, blur, sensor noise."""
    pixels = np.asarray(image, dtype=np.float32) * _light(rng, image.size)
    radius = max(image.size) / 384 * _LARGEST_BLUR * rng.uniform(0, 1) ** 2
    if radius > 0.2:
        sharp = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        pixels = np.asarray(sharp.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32)
    sigma = _LARGEST_NOISE * rng.uniform(0, 1) ** 2
    pixels = pixels + sigma * rng.standard_normal(pixels.shape, dtype=np.float32)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _light(rng: Rng, size: tuple[int, int]) -> np.ndarray:
    """What each pixel is multiplied by: float32 (H, W, 3)."""
    exposure = 1 + rng.uniform(-0.175, 0.075)
    field = 1 + 0.25 * (smooth_noise(rng, size, (2, 2)) - 0.5)
    if rng.random() < 0.25:
        field = field * (1 + 0.5 * (_hard_shadow(rng, size) - 1))
    cast = 1 + rng.uniform(-0.5, 0.5) * np.array((0.12, 0.01, -0.14))
    return (field[..., None] * exposure * cast).astype(np.float32)


def _hard_shadow(rng: Rng, size: tuple[int, int]) -> np.ndarray:
    """The shadow of something outside the picture, as of a window's frame."""
    small = (size[0] // 4, size[1] // 4)
    layer = Image.new("L", small, 255)
    shade = int(rng.uniform(0.35, 0.75) * 255)
    points = rng.uniform(-0.4, 1.4, (int(rng.integers(3, 6)), 2)) * small
    ImageDraw.Draw(layer).polygon(as_points(points), fill=shade)
    layer = layer.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 4)))
    return np.asarray(layer.resize(size, Image.Resampling.BICUBIC), dtype=np.float32) / 255
