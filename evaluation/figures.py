"""The report's figures, each a PNG in memory."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from evaluation.metrics.operating_point import THRESHOLDS
from evaluation.summary import Evaluation

INK, FAINT = "#1f2430", "#9aa3b2"
GOOD, BAD, MARK = "#0072B2", "#D55E00", "#009E73"
# Okabe and Ito's palette without the two that vanish on white.
LINES = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")
CLASSES_IN_COLOUR = len(LINES)
CELLS_WITH_NUMBERS = 16
CLASSES_WITH_NAMES = 60
DOTS_PER_INCH = 140


def precision_recall(evaluation: Evaluation) -> bytes:
    """Precision over recall at IoU 0.5, a line a class and their mean."""
    curves = {n: c for n, c in evaluation.coco.precision_curves().items() if not np.isnan(c).any()}
    recall = np.linspace(0, 1, 101)

    def draw(axis: Any) -> None:
        many = len(curves) > CLASSES_IN_COLOUR
        for number, (name, precision) in enumerate(curves.items()):
            colour = FAINT if many else LINES[number]
            style = (
                {"linewidth": 0.7, "alpha": 0.6}
                if many
                else {"linewidth": 1.4, "label": _short(name)}
            )
            axis.plot(recall, precision, color=colour, **style)
        if len(curves) > 1:
            mean = np.mean(list(curves.values()), axis=0)
            label = f"mean of {len(curves)} classes"
            axis.plot(recall, mean, color=INK, linewidth=2.4, linestyle="--", label=label)
        _fractions(axis, "recall", "precision")

    return _figure(draw, (5.2, 4.2), legend=bool(curves))


def thresholds(evaluation: Evaluation) -> bytes:
    """Precision, recall and F1 over the score threshold, all classes together."""
    rates = [evaluation.points.overall(threshold) for threshold in THRESHOLDS]

    def draw(axis: Any) -> None:
        for name, values, colour in (
            ("precision", [r.precision for r in rates], GOOD),
            ("recall", [r.recall for r in rates], BAD),
            ("F1", [r.f1 for r in rates], INK),
        ):
            axis.plot(THRESHOLDS, values, color=colour, label=name, linewidth=1.6)
        line = {"color": MARK, "linestyle": ":", "linewidth": 1.6}
        axis.axvline(evaluation.threshold, label=f"threshold {evaluation.threshold:.2f}", **line)
        _fractions(axis, "score threshold", "")

    return _figure(draw, (5.2, 4.2), legend=True)


def confusion(evaluation: Evaluation) -> bytes:
    """The confusion matrix, coloured by the share of each row."""
    counts = evaluation.confusion
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [*map(_short, evaluation.class_names), "background"]
    side = min(11.0, max(4.2, 1.9 + 0.42 * len(names)))

    def draw(axis: Any) -> None:
        axis.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="equal")
        axis.set_xlabel("detected as")
        axis.set_ylabel("truth")
        if len(names) <= CLASSES_WITH_NAMES:
            size = 9 if len(names) <= 20 else 6
            axis.set_xticks(range(len(names)), names, rotation=90 if len(names) > 8 else 45)
            axis.set_yticks(range(len(names)), names)
            axis.tick_params(labelsize=size)
        if len(names) <= CELLS_WITH_NUMBERS:
            for (row, column), count in np.ndenumerate(counts):
                ink = "white" if share[row, column] > 0.55 else INK
                text = str(count) if count else ""
                axis.text(column, row, text, ha="center", va="center", color=ink, fontsize=9)

    return _figure(draw, (side, side))


def sizes(evaluation: Evaluation) -> bytes:
    """Objects by size, found and not, with the recall of each bin above its bar."""
    edges, objects, found = recall_by_size(evaluation)

    def draw(axis: Any) -> None:
        places = np.arange(len(objects))
        axis.bar(places, found, color=GOOD, label="found")
        axis.bar(places, objects - found, bottom=found, color=BAD, label="not found", alpha=0.75)
        for place, total, right in zip(places, objects, found, strict=True):
            text = f"{right / total:.0%}" if total else ""
            axis.text(place, total, text, ha="center", va="bottom", fontsize=8, color=INK)
        axis.set_xticks(np.arange(len(edges)) - 0.5, [f"{edge:.0f}" for edge in edges])
        axis.set_xlabel("size of the object: √(width · height), pixels of the image")
        axis.set_ylabel("objects")
        axis.margins(y=0.12)

    return _figure(draw, (7.6, 3.6), legend=bool(len(objects)))


def recall_by_size(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bins of object size, each √2 wider than the one before.

    Edges in pixels (B + 1), objects (B,) and found ones (B,) at the evaluation's threshold.
    Difficult objects are not counted.
    """
    sides, seen = [np.zeros(0)], [np.zeros(0, dtype=bool)]
    for outcome in evaluation.outcomes:
        truth = outcome.image.ground_truth
        extent = (truth.boxes[:, 2:] - truth.boxes[:, :2]).astype(np.float64)
        sides.append(np.sqrt(extent.prod(axis=1))[~truth.difficult])
        seen.append(outcome.detected[~truth.difficult])
    side, found = np.concatenate(sides), np.concatenate(seen)
    if not len(side):
        return np.zeros(1), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    first = math.floor(2 * math.log2(side.min()))
    last = max(first, math.floor(2 * math.log2(side.max()))) + 1
    edges = 2 ** (np.arange(first, last + 1) / 2)
    bins = np.clip(np.searchsorted(edges, side, side="right") - 1, 0, last - first - 1)
    length = last - first
    objects = np.bincount(bins, minlength=length)
    return edges, objects, np.bincount(bins[found], minlength=length)


def _fractions(axis: Any, across: str, up: str) -> None:
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1.03)
    axis.set_xlabel(across)
    axis.set_ylabel(up)
    axis.grid(alpha=0.25)


def _short(name: str) -> str:
    """For an axis or a legend: no matplotlib markup, not hidden, not too long."""
    shown = "".join(c if c.isprintable() else "?" for c in name).replace("$", r"\$")
    shown = f" {shown}" if shown.startswith("_") else shown
    return shown if len(shown) <= 18 else shown[:17] + "…"


def _figure(
    draw: Callable[[Any], None], size: tuple[float, float], *, legend: bool = False
) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    draw(axis)
    if legend and axis.get_legend_handles_labels()[0]:
        axis.legend(frameon=False, fontsize=9)
    file = io.BytesIO()
    with warnings.catch_warnings():
        # A script that the font lacks shows as boxes in the figure, and rightly in the page.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(file, dpi=DOTS_PER_INCH, format="png")
    return file.getvalue()
