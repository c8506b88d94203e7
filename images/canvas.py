"""A sheet with the few shapes that the drawing of the architecture is put together from."""

from __future__ import annotations

from typing import NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle

INK, MUTED, SOFT, PAPER = "#1F2933", "#5B6470", "#D5DAE1", "#FFFFFF"
UNITS_PER_INCH = 96
SMALLEST_FONT = 9.0

Point = tuple[float, float]


class Tint(NamedTuple):
    """A colour for lines and text, and a light one to fill with."""

    strong: str
    light: str


def blend(first: str, second: str, share: float) -> str:
    """The colour that is ``share`` (0..1) of the way from the first to the second."""
    start, end = to_rgb(first), to_rgb(second)
    red, green, blue = (a + (b - a) * share for a, b in zip(start, end, strict=True))
    return to_hex((red, green, blue))


class Canvas:
    """A figure of width × height units, 96 to the inch: a font of 9 is 12 units high."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(
            figsize=(width / UNITS_PER_INCH, height / UNITS_PER_INCH), facecolor=PAPER
        )
        FigureCanvasAgg(self.figure)
        self._axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
        self._axes.set_axis_off()

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: float = SMALLEST_FONT,
        colour: str = INK,
        bold: bool = False,
        ha: str = "center",
    ) -> None:
        """One line of text, vertically centred on its capitals."""
        self._axes.text(
            x,
            y,
            words,
            fontsize=size,
            color=colour,
            ha=ha,
            va="center_baseline",
            weight="bold" if bold else "normal",
            zorder=5,
        )

    def box(
        self,
        edges: tuple[float, float, float, float],
        tint: Tint,
        *,
        faint: bool = False,
        solid: bool = False,
    ) -> None:
        """A rounded box. edges: left, bottom, right, top."""
        left, bottom, right, top = edges
        face = tint.strong if solid else blend(tint.light, PAPER, 0.6) if faint else tint.light
        edge = blend(tint.strong, PAPER, 0.55) if faint else tint.strong
        self._axes.add_patch(
            FancyBboxPatch(
                (left, bottom),
                right - left,
                top - bottom,
                boxstyle="round,pad=0,rounding_size=6",
                fc=face,
                ec=edge,
                lw=1.0,
                zorder=2,
            )
        )

    def pill(self, x: float, y: float, words: str, tint: Tint) -> None:
        """A short text in a box 36 units wide around (x, y)."""
        self.box((x - 18, y - 11, x + 18, y + 11), tint)
        self.text(x, y, words, colour=tint.strong, bold=True)

    def disc(self, x: float, y: float, radius: float, tint: Tint, words: str) -> None:
        self._axes.add_patch(Circle((x, y), radius, fc=tint.strong, ec="none", zorder=3))
        self.text(x, y, words, colour="white", bold=True)

    def plus(self, x: float, y: float, radius: float, tint: Tint) -> None:
        """The sign of a sum."""
        self._axes.add_patch(Circle((x, y), radius, fc=PAPER, ec=tint.strong, lw=1.4, zorder=3))
        arm = radius * 0.55
        self.line((x - arm, y), (x + arm, y), tint.strong, width=1.6)
        self.line((x, y - arm), (x, y + arm), tint.strong, width=1.6)

    def plane(self, x: float, y: float, width: float, tint: Tint) -> None:
        """A square feature map that lies flat, seen from the side."""
        tall, slant = width * 0.36, width * 0.2
        corners = [
            (x - width / 2 - slant / 2, y - tall / 2),
            (x + width / 2 - slant / 2, y - tall / 2),
            (x + width / 2 + slant / 2, y + tall / 2),
            (x - width / 2 + slant / 2, y + tall / 2),
        ]
        face = blend(tint.light, tint.strong, 0.35)
        self._axes.add_patch(Polygon(corners, fc=face, ec=tint.strong, lw=0.9, zorder=3))

    def frame(self, middle: Point, size: Point, colour: str, face: str) -> None:
        """A rectangle. middle: (x, y). size: (width, height)."""
        (x, y), (width, height) = middle, size
        self._axes.add_patch(
            Rectangle(
                (x - width / 2, y - height / 2),
                width,
                height,
                fc=face,
                ec=colour,
                lw=1.0,
                zorder=3,
            )
        )

    def line(self, start: Point, end: Point, colour: str, *, width: float = 1.3) -> None:
        self._axes.plot(*zip(start, end, strict=True), color=colour, lw=width, zorder=4)

    def arrow(self, start: Point, end: Point, colour: str, *, head: float = 9) -> None:
        """An arrow whose tip touches ``end``."""
        self._axes.add_patch(
            FancyArrowPatch(
                start,
                end,
                arrowstyle="-|>",
                mutation_scale=head,
                shrinkA=0,
                shrinkB=0,
                color=colour,
                lw=1.3,
                joinstyle="miter",
                zorder=2.5,
            )
        )
