"""Drawing: boxes on images, grids of images, curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from utils.console import harmless

# Okabe and Ito's palette (jfly.uni-koeln.de/color), which colour-blind readers can distinguish.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#FFFFFF")
CAPTION_HEIGHT = 18
GAP = 6
LONGEST_CAPTION = 60  # characters; the name of a class is untrusted text


def colour_of(label: int) -> str:
    """One colour per class; label is 1..K."""
    return COLOURS[(label - 1) % len(COLOURS)]


def draw_boxes(
    image: Image.Image,
    boxes: Sequence[Sequence[float]] | np.ndarray,
    labels: Sequence[int] | np.ndarray,
    captions: Sequence[str],
    colours: Sequence[str] | None = None,
) -> Image.Image:
    """A copy of the image with its boxes.

    boxes: (N, 4) xyxy, absolute pixels of the image. labels: (N,), 1..K.
    captions: N texts, drawn at the boxes' upper left corners; the middle of a long one is left out,
    and control characters are shown as their codes. colours: N of the form ``#RRGGBB``; by default
    those of the labels.
    """
    drawn = image.convert("RGB")
    pen = ImageDraw.Draw(drawn)
    size = max(10, round(max(drawn.size) / 36))
    line = max(1, round(size / 6))
    font = ImageFont.load_default(size)
    chosen = [colour_of(int(label)) for label in labels] if colours is None else colours
    for box, colour, caption in zip(boxes, chosen, captions, strict=True):
        left, top, right, bottom = (float(c) for c in box)
        pen.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=line)
        caption = _fit(caption)
        text = pen.textbbox((0, 0), caption, font=font)
        width, height = text[2] + 4, text[3] + 3
        # Whole pixels: Pillow fails on some texts that begin between two.
        x = round(min(max(0.0, left), max(0, drawn.width - width)))
        y = round(top - height if top >= height else top)
        pen.rectangle((x, y, x + width, y + height), fill=colour)
        pen.text((x + 2, y), caption, fill=_ink_on(colour), font=font)
    return drawn


def _fit(caption: str) -> str:
    """One line, short enough to be drawn; its end, which is kept, has the score."""
    if len(caption) > LONGEST_CAPTION:
        caption = f"{caption[: LONGEST_CAPTION - 12]}...{caption[-9:]}"
    return harmless(caption)


def image_grid(
    rows: Sequence[tuple[Image.Image, Image.Image]],
    titles: tuple[str, str],
    *,
    pairs_across: int = 3,
    side: int = 260,
) -> Image.Image:
    """Pairs of images side by side in a grid, each scaled to fit ``side`` pixels.

    rows: (left, right) images of a pair. titles: of the left and of the right image of each pair.
    The cells are as high as the highest scaled image.
    """
    fitted = [tuple(_shrunk(image, side) for image in pair) for pair in rows]
    tallest = max((p.height for pair in fitted for p in pair), default=side)
    pair_width, pair_height = 2 * side + GAP, tallest + CAPTION_HEIGHT
    across = max(1, min(pairs_across, len(rows)))
    down = max(1, math.ceil(len(rows) / across))
    size = (across * (pair_width + 2 * GAP), down * (pair_height + 2 * GAP))
    grid = Image.new("RGB", size, "#202124")
    pen = ImageDraw.Draw(grid)
    font = ImageFont.load_default(13)
    for number, pair in enumerate(fitted):
        x = (number % across) * (pair_width + 2 * GAP) + GAP
        y = (number // across) * (pair_height + 2 * GAP) + GAP
        for image, title in zip(pair, titles, strict=True):
            pen.text((x + 2, y), title, fill="#E8EAED", font=font)
            offset = ((side - image.width) // 2, (tallest - image.height) // 2)
            grid.paste(image, (x + offset[0], y + CAPTION_HEIGHT + offset[1]))
            x += side + GAP
    return grid


def _shrunk(image: Image.Image, side: int) -> Image.Image:
    copy = image.copy()
    copy.thumbnail((side, side))
    return copy


def draw_curves(
    panels: Mapping[str, Mapping[str, Sequence[float]]], epochs: Sequence[int], path: Path
) -> None:
    """Curves over epochs as a PNG: one panel per title, one line per name.

    panels: title to (name to one value per epoch; nan where there is none).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(4.6 * len(panels), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, lines) in zip(axes, panels.items(), strict=True):
        for name, values in lines.items():
            axis.plot(epochs, values, marker="o", markersize=3, label=name)
        axis.set_title(title)
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
        if len(lines) > 1:
            axis.legend()
    figure.savefig(path, dpi=110)


def _ink_on(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 120 else "white"
