"""Draw the pictures of the README: ``python -m images.draw`` writes them into ``images/``."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageColor

from images.architecture import architecture_figure
from images.canvas import UNITS_PER_INCH
from images.cards import banner, header
from utils.visualisation import COLOURS

FOLDER = Path(__file__).resolve().parent
SHARPNESS = 2  # stored pixels for one unit of the architecture's drawing


def architecture() -> Image.Image:
    """The drawing of the detector, 256 colours, 1800 pixels wide."""
    stored = io.BytesIO()
    architecture_figure().savefig(stored, format="png", dpi=UNITS_PER_INCH * SHARPNESS)
    return Image.open(stored).convert("RGB").quantize(256)


def dithered(image: Image.Image) -> Image.Image:
    """256 colours, those of the boxes among them: no thin box is tinted by what lies around it."""
    boxes = [channel for colour in COLOURS for channel in ImageColor.getrgb(colour)]
    rest = 256 - len(COLOURS)
    palette = Image.new("P", (1, 1))
    palette.putpalette((image.quantize(rest).getpalette() or [])[: 3 * rest] + boxes)
    return image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)


PICTURES: dict[str, Callable[[], Image.Image]] = {
    "architecture.png": architecture,
    "banner.png": lambda: dithered(banner()),
    "header.png": lambda: dithered(header()),
}


def draw_all(folder: Path = FOLDER) -> list[Path]:
    """Write every picture into ``folder``; returns their paths."""
    paths = []
    for name, make in PICTURES.items():
        paths.append(folder / name)
        make().save(paths[-1], optimize=True)
    return paths


if __name__ == "__main__":
    for path in draw_all():
        print(f"{path} {path.stat().st_size / 1000:.0f} kB")
