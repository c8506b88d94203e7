"""A drawing of the detector, made from the table that the detector itself is made from.

One unit of the drawing is one pixel of a README column 900 pixels wide; the origin is at the lower
left, so that the way down the drawing is the way down the pyramid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from images.canvas import INK, MUTED, SOFT, Canvas, Tint, blend
from model import efficient_retinanet as retinanet
from model.efficient_retinanet import Level
from model.network.efficientnet_body import FIRST_TAPPED_STAGE, EfficientNetBody

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 900
IMAGE_SIZE = 512
BACKBONE_NAME = "efficientnet-b0"

BLUE = Tint("#2F6DB5", "#E4EEF9")
TEAL = Tint("#12857A", "#E0F4F1")
ORANGE = Tint("#C8641B", "#FCEEDF")
PURPLE = Tint("#7A4BB0", "#F0E9F9")
GREY = Tint("#5B6470", "#EEF0F3")

_MARGIN = 24
_PITCH, _LOW_PITCH = 62, 47
_FIRST_LEVEL_Y = 233
_BACKBONE = (_MARGIN, 186)
_LATERAL_X, _SUM_X, _SMOOTH_X = 221, 262, 303
_LEVEL = (338, 670)
_PLANE_X = 68
_BUS_X = 687
_HEAD = (712, WIDTH - _MARGIN)
_HEAD_PITCH, _HEAD_ENTRY, _HEADS_HEIGHT = 268, 44, 512
_ANCHORS_TOP = 160


def architecture_figure() -> Figure:
    """The detector from image to losses, 900 units wide, at 96 units an inch.

    Rows, strides and anchor sizes are those of ``model.efficient_retinanet.LEVELS`` when called,
    channels those of a body built for it.
    """
    levels = retinanet.LEVELS
    stages = _backbone_channels()
    y_of_stage = {name: _FIRST_LEVEL_Y + _PITCH * row for row, name in enumerate(stages)}
    tapped = [level for level in levels if level.source in stages]
    extra = [level for level in levels if level.source not in stages]
    top = _FIRST_LEVEL_Y + _PITCH * (len(stages) - 1)
    ys = [y_of_stage[level.source] for level in tapped]
    ys += [top + _PITCH * (i + 1) for i in range(len(extra))]

    # The title wants its place above the backbone, the heads want theirs above the anchors.
    highest = max(ys[-1] + 19, top + 121, _ANCHORS_TOP + 14 + _HEADS_HEIGHT)
    canvas = Canvas(WIDTH, highest + _MARGIN)
    _draw_title(canvas, len(tapped), len(levels))
    _draw_backbone(canvas, stages, y_of_stage, {level.source for level in tapped})
    _draw_top_down(canvas, tapped, ys)
    for number, (level, y) in enumerate(zip(levels, ys, strict=True), start=1):
        _draw_level(canvas, number, level, y)
    _draw_extra_levels(canvas, levels, ys, len(tapped))
    _draw_heads(canvas, ys)
    _draw_anchors(canvas)
    return canvas.figure


def _backbone_channels() -> dict[str, int]:
    """Channels of each tap of the backbone, shallow to deep, by the name the table gives it."""
    from efficientnet_pytorch import EfficientNet

    network = EfficientNet.from_name(BACKBONE_NAME, image_size=None, include_top=False)
    *stages, head = EfficientNetBody(network).out_channels
    first = FIRST_TAPPED_STAGE
    named = {f"MBConv stage {first + i}": channels for i, channels in enumerate(stages)}
    return {**named, "head convolution": head}


def _draw_title(canvas: Canvas, taps: int, levels: int) -> None:
    y = canvas.height - 34
    canvas.text(_BACKBONE[0], y, "Efficient RetinaNet", size=17, bold=True, ha="left")
    canvas.text(
        _BACKBONE[0],
        y - 27,
        f"{taps} taps of {BACKBONE_NAME}, {levels} levels,",
        colour=MUTED,
        size=10,
        ha="left",
    )
    canvas.text(
        _BACKBONE[0], y - 44, "two heads shared by all of them", colour=MUTED, size=10, ha="left"
    )


def _draw_backbone(
    canvas: Canvas, stages: dict[str, int], y_of_stage: dict[str, int], tapped: set[str]
) -> None:
    left, right = _BACKBONE
    middle = (left + right) / 2
    untapped = [f"MBConv stage {i}" for i in range(FIRST_TAPPED_STAGE - 1, 0, -1)]
    upper_edge = _FIRST_LEVEL_Y - 21
    for name in (*untapped, "stem", "image"):
        y = upper_edge - _LOW_PITCH + 15
        canvas.arrow((middle, y + 15), (middle, upper_edge), BLUE.strong)
        upper_edge = y - 15
        tint, words = BLUE, name
        if name == "stem":
            words = "stem: 3×3 conv, stride 2"
        elif name == "image":
            tint, words = GREY, f"image, {IMAGE_SIZE} × {IMAGE_SIZE} px"
        canvas.box((left, y - 15, right, y + 15), tint, faint=tint is BLUE)
        canvas.text(middle, y, words, colour=tint.strong if tint is BLUE else INK)
    previous = None
    for name, channels in stages.items():
        y = y_of_stage[name]
        canvas.box((left, y - 21, right, y + 21), BLUE)
        canvas.text(middle, y + 8, name, bold=True)
        canvas.text(middle, y - 9, f"{channels} channels", colour=BLUE.strong)
        if previous is not None:
            canvas.arrow((middle, previous + 21), (middle, y - 21), BLUE.strong)
        previous = y
        if name in tapped:
            canvas.arrow((right, y), (_LATERAL_X - 18, y), BLUE.strong)


def _draw_top_down(canvas: Canvas, tapped: Sequence[Level], ys: Sequence[float]) -> None:
    """Lateral convolutions, sums and the path from each level to the next finer one."""
    for level, finer, y, y_finer in zip(tapped[1:], tapped, ys[1:], ys, strict=False):
        # Nothing comes from above to the deepest tap: there is no sum, its map passes on.
        start = y if level is tapped[-1] else y - 10
        canvas.arrow((_SUM_X, start), (_SUM_X, y_finer + 10), TEAL.strong)
        if level.stride != finer.stride:
            words = f"{level.stride // finer.stride}× up"
            canvas.text(_SUM_X + 6, (y + y_finer) / 2 + 2, words, colour=TEAL.strong, ha="left")
    for row, y in enumerate(ys[: len(tapped)], start=1):
        canvas.pill(_LATERAL_X, y, "1×1", TEAL)
        canvas.pill(_SMOOTH_X, y, "3×3", TEAL)
        if row == len(tapped):
            canvas.arrow((_LATERAL_X + 18, y), (_SMOOTH_X - 18, y), TEAL.strong)
        else:
            canvas.arrow((_LATERAL_X + 18, y), (_SUM_X - 10, y), TEAL.strong)
            canvas.arrow((_SUM_X + 10, y), (_SMOOTH_X - 18, y), TEAL.strong)
            canvas.plus(_SUM_X, y, 10, TEAL)
        canvas.arrow((_SMOOTH_X + 18, y), (_LEVEL[0], y), TEAL.strong)
    below = ys[0] - 36
    for words in (
        "lateral 1×1 conv,",
        "top-down path (+),",
        "3×3 conv: every map",
        f"has {retinanet.PYRAMID_CHANNELS} channels",
    ):
        canvas.text(_LATERAL_X - 18, below, words, colour=TEAL.strong, ha="left")
        below -= 16


def _draw_level(canvas: Canvas, number: int, level: Level, y: float) -> None:
    left, right = _LEVEL
    canvas.box((left, y - 19, right, y + 19), ORANGE)
    canvas.disc(left + 21, y, 11, ORANGE, str(number))
    cells = math.ceil(IMAGE_SIZE / level.stride)
    canvas.plane(left + _PLANE_X, y, 4 + 7.5 * math.log2(cells), ORANGE)
    for x, words in (
        (left + 106, f"stride {level.stride}"),
        (left + 178, f"{cells} × {cells}"),
        (left + 239, f"anchor {level.anchor_size} px"),
    ):
        canvas.text(x, y, words, ha="left")
    canvas.line((right, y), (_BUS_X, y), GREY.strong)


def _draw_extra_levels(
    canvas: Canvas, levels: Sequence[Level], ys: Sequence[float], tapped: int
) -> None:
    """The levels computed from the one below them instead of from the backbone."""
    x = _LEVEL[0] + _PLANE_X
    for row in range(tapped, len(levels)):
        canvas.arrow((x, ys[row - 1] + 19), (x, ys[row] - 19), ORANGE.strong)
        factor = levels[row].stride // levels[row - 1].stride
        words = f"{levels[row].source} = 3×3 conv, stride {factor}"
        words += f", on level {row}" if row == tapped else f", on ReLU({levels[row - 1].source})"
        y = (ys[row - 1] + ys[row]) / 2
        canvas.text(x + 10, y, words, colour=ORANGE.strong, ha="left")


def _draw_heads(canvas: Canvas, ys: Sequence[float]) -> None:
    anchors = len(retinanet.ANCHOR_SCALES) * len(retinanet.ASPECT_RATIOS)
    top = canvas.height - _MARGIN
    canvas.line((_BUS_X, ys[0]), (_BUS_X, max(ys[-1], top - _HEAD_ENTRY)), GREY.strong)
    for title, output, loss, tint in (
        ("classification head", f"{anchors} × (K + 1) logits", "focal loss", PURPLE),
        ("box head", f"{anchors} × 4 offsets", "L1 loss", BLUE),
    ):
        _draw_head(canvas, top, (title, output, loss), tint)
        top -= _HEAD_PITCH


def _draw_head(canvas: Canvas, top: float, words: tuple[str, str, str], tint: Tint) -> None:
    title, output, loss = words
    left, right = _HEAD
    middle = (left + right) / 2
    canvas.box((left, top - 196, right, top), tint, faint=True)
    canvas.text(middle, top - 16, title, bold=True, colour=tint.strong)
    y = top - _HEAD_ENTRY
    canvas.arrow((_BUS_X, y), (left + 12, y), GREY.strong)
    for row in range(5):
        canvas.box((left + 12, y - 12, right - 12, y + 12), tint, solid=row == 4)
        if row < 4:
            canvas.text(middle, y, f"3×3 conv, {retinanet.PYRAMID_CHANNELS}, ReLU")
            canvas.arrow((middle, y - 12), (middle, y - 21), tint.strong, head=6)
        else:
            canvas.text(middle, y, output, colour="white", bold=True)
        y -= 33
    canvas.arrow((middle, top - 188), (middle, top - 218), tint.strong)
    canvas.box((left + 30, top - 244, right - 30, top - 218), GREY)
    canvas.text(middle, top - 231, loss, bold=True)


def _draw_anchors(canvas: Canvas) -> None:
    """One drawing a ratio, with the box of each scale in it, to scale among each other."""
    scales, ratios = retinanet.ANCHOR_SCALES, retinanet.ASPECT_RATIOS
    left, right, middle = _LEVEL[0], _HEAD[1], (_MARGIN + _ANCHORS_TOP) / 2
    canvas.box((left, _MARGIN, right, _ANCHORS_TOP), Tint(SOFT, "#FFFFFF"))
    y = _ANCHORS_TOP - 22
    title = f"{len(scales) * len(ratios)} anchors at every location"
    canvas.text(left + 16, y, title, bold=True, ha="left")
    for row, words in enumerate(
        (
            f"scales {', '.join(f'{scale:.3g}' for scale in scales)}, times the level's anchor",
            f"ratios {', '.join(f'{ratio:g}' for ratio in ratios)}, height to width",
            "",
            "K classes and the background: K + 1 logits",
        )
    ):
        canvas.text(left + 16, y - 26 - 20 * row, words, ha="left", colour=MUTED)
    unit = 56 / max(scales)
    x = right - 18.0
    for ratio in reversed(ratios):
        width, height = unit / math.sqrt(ratio), unit * math.sqrt(ratio)
        x -= width * max(scales) / 2
        for shade, scale in enumerate(sorted(scales, reverse=True)):
            face = blend(ORANGE.light, ORANGE.strong, 0.12 * shade)
            canvas.frame((x, middle), (width * scale, height * scale), ORANGE.strong, face)
        x -= width * max(scales) / 2 + 18
