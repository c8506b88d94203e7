"""Jack, queen and king as two-headed figures, after the common pattern seen from a distance.

The upper figure is drawn on a sheet 100 wide and 160 high, then turned about the sheet's centre.
What tells the ranks apart is the same in every deck: the jack's red hat, yellow hair and staff,
the queen's veil, corner crown and flower, the king's yellow crown, beard and sword.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from data.drawn_cards.signs import Colour, Palette, Point, as_points

COURT_RANKS = ("jack", "queen", "king")

Points = Sequence[Point]
Rng = np.random.Generator
WHITE: Colour = (250, 249, 246)


class _Sheet:
    """A drawing surface in sheet units; ``mirrored`` draws everything left for right."""

    def __init__(self, size: tuple[int, int], ground: Colour, line: Colour, mirrored: bool) -> None:
        self.image = Image.new("RGB", size, ground)
        self.draw = ImageDraw.Draw(self.image)
        self.scale = np.array((size[0] / 100, size[1] / 160))
        self.line_colour = line
        self.mirrored = mirrored

    def at(self, points: Points) -> list[Point]:
        p = np.asarray(points, dtype=float)
        if self.mirrored:
            p = np.stack([100 - p[:, 0], p[:, 1]], axis=1)
        return as_points(p * self.scale)

    def width(self, units: float) -> int:
        return max(1, round(units * float(self.scale[0])))

    def area(self, points: Points, fill: Colour, line: float = 0.9) -> None:
        placed = self.at(points)
        self.draw.polygon(placed, fill=fill)
        if line:
            closed = [*placed, placed[0]]
            self.draw.line(closed, fill=self.line_colour, width=self.width(line), joint="curve")

    def line(self, points: Points, fill: Colour, width: float) -> None:
        self.draw.line(self.at(points), fill=fill, width=self.width(width), joint="curve")

    def oval(
        self, x: float, y: float, rx: float, ry: float, fill: Colour, line: float = 0.9
    ) -> None:
        angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
        ring = np.stack([x + rx * np.cos(angles), y + ry * np.sin(angles)], axis=1)
        self.area(as_points(ring), fill, line)

    def dots(self, start: Point, end: Point, count: int, radius: float, fill: Colour) -> None:
        for s in np.linspace(0, 1, count):
            x, y = np.array(start) * (1 - s) + np.array(end) * s
            self.oval(x, y, radius, radius, fill, line=0)


def court_figure(
    rank: str, size: tuple[int, int], palette: Palette, skin: Colour, ground: Colour, rng: Rng
) -> Image.Image:
    """The framed picture of a court card: RGB, ``size`` (width, height), point-symmetric.

    palette: red, blue, yellow, black. rng varies the clothes, the side and the dividing line.
    """
    mirrored = bool(rng.random() < 0.25)
    sheet = _Sheet(size, ground, palette[3] if rng.random() < 0.5 else palette[1], mirrored)
    {"jack": _jack, "queen": _queen, "king": _king}[rank](sheet, palette, skin, rng)
    upper = sheet.image
    tilt = float(rng.choice([-0.22, 0.0, 0.22])) * size[0] / 2
    (width, height), keep_upper = size, Image.new("L", size, 0)
    half = [(0, 0), (width, 0), (width, height / 2 - tilt), (0, height / 2 + tilt)]
    ImageDraw.Draw(keep_upper).polygon(half, fill=255)
    return Image.composite(upper, upper.rotate(180), keep_upper)


def _face(sheet: _Sheet, x: float, y: float, skin: Colour, ink: Colour) -> None:
    outline = ((-9, -13), (9, -13), (9.5, 2), (5, 12), (0, 14), (-5, 12), (-9.5, 2))
    sheet.area([(x + dx, y + dy) for dx, dy in outline], skin)
    for side in (-4.2, 4.2):
        sheet.line([(x + side - 2.4, y - 4.5), (x + side + 2.4, y - 4.8)], ink, 0.9)
        sheet.oval(x + side, y - 2, 1.5, 1.0, ink, line=0)
    sheet.line([(x + 0.6, y - 4), (x - 1.6, y + 3), (x + 1, y + 3.4)], ink, 0.8)
    sheet.line([(x - 3, y + 7), (x + 3, y + 7)], ink, 1.2)


def _frame_face(
    sheet: _Sheet, outline: Points, fill: Colour, lines: Sequence[Points], ink: Colour, width: float
) -> None:
    """Hair or a veil on both sides of the face; x counts outwards from the face's middle."""
    for side in (-1, 1):
        sheet.area([(54 + side * x, y) for x, y in outline], fill)
        for line in lines:
            sheet.line([(54 + side * x, y) for x, y in line], ink, width)


def _bands(
    sheet: _Sheet, start: Point, end: Point, width: float, colours: Sequence[Colour], dots: Colour
) -> None:
    """Stripes side by side along start-end, the middle one dotted, as on embroidered cloth."""
    along = np.subtract(end, start)
    normal = np.array((-along[1], along[0])) / np.hypot(*along)
    offsets = (np.arange(len(colours)) - (len(colours) - 1) / 2) * width
    for offset, colour in zip(offsets, colours, strict=True):
        stripe = np.array((start, end)) + normal * offset
        sheet.line(as_points(stripe), colour, width * 1.05)
    sheet.dots(start, end, max(3, int(np.hypot(*along) / (width * 1.15))), width * 0.28, dots)


def _jack(sheet: _Sheet, palette: Palette, skin: Colour, rng: Rng) -> None:
    red, blue, yellow, black = palette
    coat, sleeve = (red, blue) if rng.random() < 0.5 else (blue, red)
    sheet.area([(30, 46), (6, 64), (0, 120), (100, 120), (96, 62), (74, 44), (52, 56)], coat)
    sheet.area([(30, 46), (6, 64), (0, 104), (16, 108), (34, 76)], sleeve)
    sheet.area([(74, 44), (96, 62), (100, 104), (86, 104), (66, 76)], sleeve)
    _bands(sheet, (28, 52), (78, 108), 5.0, (black, yellow, black), red)
    _bands(sheet, (80, 54), (30, 108), 4.2, (yellow, WHITE, black), blue)
    sheet.oval(50, 80, 15, 13, yellow)
    sheet.oval(50, 80, 10, 9, black)
    sheet.oval(50, 80, 5, 4.5, red)
    sheet.line([(8, 70), (18, 100)], yellow, 2.5)
    sheet.line([(92, 70), (84, 100)], yellow, 2.5)
    _bands(sheet, (88, 2), (88, 62), 3.2, (black, yellow, black), yellow)
    sheet.oval(88, 50, 6, 5, skin)
    # Page-boy hair beside and below the cheeks, with a curl turned outwards.
    outline = [(8, 12), (16, 14), (18, 34), (22, 44), (10, 46), (8, 34)]
    strands = [[(11, 16), (13.5, 42)], [(14, 16), (16.5, 42)]]
    _frame_face(sheet, outline, yellow, strands, black, 0.8)
    _face(sheet, 54, 27, skin, black)
    sheet.area([(34, 48), (54, 42), (74, 46), (54, 58)], yellow)
    sheet.dots((40, 49), (68, 49), 6, 1.4, black)
    sheet.area([(30, 0), (84, 0), (74, 15), (40, 15)], red)
    for x in (38, 50, 62):
        sheet.area([(x, 2), (x + 9, 2), (x + 7.5, 9), (x + 1.5, 9)], red, line=0)
        sheet.line([(x + 1, 1), (x + 2, 9), (x + 7, 9), (x + 8, 1)], WHITE, 1.6)
    sheet.line([(40, 14), (74, 14)], black, 2.4)


def _queen(sheet: _Sheet, palette: Palette, skin: Colour, rng: Rng) -> None:
    red, blue, yellow, black = palette
    gown, mantle = (red, blue) if rng.random() < 0.6 else (blue, red)
    sheet.area([(36, 44), (8, 66), (0, 120), (100, 120), (100, 58), (72, 40)], gown)
    sheet.area([(40, 0), (32, 24), (34, 46), (26, 56), (40, 60), (44, 40), (42, 10)], black)
    sheet.area([(66, 0), (82, 14), (100, 42), (100, 66), (84, 56), (72, 42)], mantle)
    sheet.line([(72, 4), (98, 46)], WHITE, 2.2)
    sheet.line([(76, 2), (100, 36)], black, 3.0)
    # Veil: white with fine lines, falling on both sides of the face.
    outline = [(0, 0), (14, 4), (16, 30), (13, 48), (7, 40)]
    folds = [[(10.1, 5), (9.5, 42)], [(11.6, 5), (12, 42)], [(12.92, 5), (14.2, 42)]]
    _frame_face(sheet, outline, WHITE, folds, sheet.line_colour, 0.7)
    _face(sheet, 54, 23, skin, black)
    sheet.area([(42, 5), (54, 1), (66, 5), (63, 12), (54, 9), (45, 12)], WHITE)
    sheet.area([(78, 0), (100, 0), (100, 26), (90, 14)], yellow)
    sheet.dots((85, 4), (97, 18), 4, 1.9, black)
    # Broad embroidered collar, a lozenge over the breast.
    sheet.area([(28, 58), (54, 40), (80, 54), (54, 76)], yellow)
    for i in range(5):
        sheet.line([(32 + i * 9, 59 - i * 2.2), (52 + i * 6, 73 - i * 4.5)], black, 1.0)
        sheet.line([(52 - i * 4.5, 43 + i * 4.2), (76 - i * 5, 54 + i * 4.5)], black, 1.0)
    sheet.area([(4, 84), (26, 62), (40, 74), (22, 104)], yellow)
    sheet.oval(24, 82, 8, 9, mantle)
    sheet.oval(24, 82, 4, 5, WHITE)
    _bands(sheet, (54, 74), (54, 112), 4.5, (black, red, black), yellow)
    _bands(sheet, (84, 66), (70, 104), 4.2, (black, yellow, WHITE), blue)
    # Flower in the hand.
    sheet.line([(14, 74), (15, 52)], blue, 1.4)
    for dx, dy in ((-5, 0), (5, 0), (0, -5), (0, 5)):
        sheet.oval(15 + dx, 46 + dy, 3.8, 3.8, yellow)
    sheet.oval(15, 46, 3.0, 3.0, red)
    sheet.oval(13, 66, 5, 4, skin)


def _king(sheet: _Sheet, palette: Palette, skin: Colour, rng: Rng) -> None:
    red, blue, yellow, black = palette
    robe, sleeve = (red, blue) if rng.random() < 0.6 else (blue, red)
    sheet.area([(34, 46), (4, 58), (0, 120), (100, 120), (98, 56), (72, 46)], robe)
    sheet.area([(6, 58), (0, 100), (18, 108), (28, 64)], sleeve)
    sheet.area([(96, 56), (100, 100), (84, 108), (76, 62)], sleeve)
    _bands(sheet, (30, 52), (24, 112), 4.2, (black, yellow, black), WHITE)
    _bands(sheet, (76, 52), (82, 112), 4.2, (black, yellow, black), WHITE)
    # Ermine down the front.
    sheet.area([(42, 46), (66, 46), (62, 112), (46, 112)], WHITE)
    sheet.dots((49, 62), (50, 104), 6, 1.6, black)
    sheet.dots((59, 62), (58, 104), 6, 1.6, black)
    sheet.area([(40, 74), (54, 66), (68, 74), (54, 86)], yellow)
    sheet.area([(46, 75), (54, 70), (62, 75), (54, 81)], red)
    # Sword upright at the side.
    sheet.area([(85, 4), (91, 4), (92, 40), (84, 40)], WHITE)
    sheet.line([(88, 6), (88, 38)], blue, 1.2)
    sheet.line([(78, 41), (98, 41)], yellow, 3.0)
    sheet.line([(88, 41), (88, 56)], yellow, 3.0)
    sheet.oval(88, 49, 6, 5, skin)
    # Curled hair and a full beard around the face.
    outline = [(8, 12), (16, 15), (19, 30), (22, 40), (11, 42), (8, 30)]
    strands = [[(11.5, 16), (14, 39)], [(14.5, 16), (17, 39)]]
    _frame_face(sheet, outline, WHITE, strands, sheet.line_colour, 0.9)
    _face(sheet, 54, 26, skin, black)
    beard = [(44, 32), (50, 31), (54, 33), (58, 31), (64, 32), (63, 48), (54, 60), (45, 48)]
    sheet.area(beard, WHITE)
    for x in (48, 51, 54, 57, 60):
        sheet.line([(x, 37), (54 + (x - 54) * 0.5, 54)], sheet.line_colour, 0.9)
    sheet.line([(46, 32), (54, 34), (62, 32)], black, 1.3)
    # Crown with points, balls and a dark band.
    sheet.area([(26, 0), (84, 0), (74, 15), (36, 15)], yellow)
    sheet.dots((34, 3.5), (76, 3.5), 6, 2.3, black)
    sheet.line([(32, 9), (78, 9)], red, 1.6)
    sheet.line([(36, 13.5), (74, 13.5)], black, 3.2)
    sheet.dots((39, 13.5), (71, 13.5), 8, 0.9, yellow)
