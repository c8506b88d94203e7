"""The report's figures, each a PNG in memory."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from evaluation.detector_metrics import DetectorMetrics
from evaluation.metrics.operating_point import THRESHOLDS

INK, FAINT = "#1f2430", "#9aa3b2"
GOOD, BAD, MARK = "#0072B2", "#D55E00", "#009E73"
# Okabe and Ito's palette without the two that vanish on white.
LINES = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")
CLASSES_IN_COLOUR = len(LINES)
CELLS_WITH_NUMBERS = 16
CLASSES_WITH_NAMES = 60
DOTS_PER_INCH = 140


def draw_figures(metrics: DetectorMetrics) -> dict[str, bytes]:
    """All of them, PNGs by name."""
    return {
        draw.__name__: draw(metrics) for draw in (precision_recall, thresholds, confusion, sizes)
    }


def precision_recall(metrics: DetectorMetrics) -> bytes:
    """Precision over recall at IoU 0.5, one line per class and their mean."""
    measured = metrics.evaluation.precision_curves()
    curves = {name: curve for name, curve in measured.items() if not np.isnan(curve).any()}
    recall = np.linspace(0, 1, 101)

    def draw(axis: Any) -> None:
        many = len(curves) > CLASSES_IN_COLOUR
        for number, (name, precision) in enumerate(curves.items()):
            colour = FAINT if many else LINES[number]
            labelled = {"linewidth": 1.4, "label": short(name)}
            style = {"linewidth": 0.7, "alpha": 0.6} if many else labelled
            axis.plot(recall, precision, color=colour, **style)
        if len(curves) > 1:
            mean = np.mean(list(curves.values()), axis=0)
            label = f"mean of {len(curves)} classes"
            axis.plot(recall, mean, color=INK, linewidth=2.4, linestyle="--", label=label)
        _fractions(axis, "recall", "precision")

    return _figure(draw, (5.2, 4.2), legend=bool(curves))


def thresholds(metrics: DetectorMetrics) -> bytes:
    """Precision, recall and F1 over the score threshold, all classes together."""
    rates = [metrics.points.overall(threshold) for threshold in THRESHOLDS]

    def draw(axis: Any) -> None:
        for name, values, colour in (
            ("precision", [r.precision for r in rates], GOOD),
            ("recall", [r.recall for r in rates], BAD),
            ("F1", [r.f1 for r in rates], INK),
        ):
            axis.plot(THRESHOLDS, values, color=colour, label=name, linewidth=1.6)
        line = {"color": MARK, "linestyle": ":", "linewidth": 1.6}
        axis.axvline(metrics.threshold, label=f"threshold {metrics.threshold:.2f}", **line)
        _fractions(axis, "score threshold", "")

    return _figure(draw, (5.2, 4.2), legend=True)


def confusion(metrics: DetectorMetrics) -> bytes:
    """The confusion matrix, coloured by the share of each row."""
    counts = metrics.confusion
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [*map(short, metrics.class_names), "background"]
    side = min(11.0, max(4.2, 1.9 + 0.42 * len(names)))

    def draw(axis: Any) -> None:
        axis.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="equal")
        axis.set_xlabel("predicted class")
        axis.set_ylabel("annotated class")
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


def sizes(metrics: DetectorMetrics) -> bytes:
    """Objects by size, detected and missed, with the recall of each bin above its bar."""
    edges, objects, detected = recall_by_size(metrics)

    def draw(axis: Any) -> None:
        bars = np.arange(len(objects))
        missed = objects - detected
        axis.bar(bars, detected, color=GOOD, label="detected with the correct class")
        axis.bar(
            bars, missed, bottom=detected, color=BAD, label="missed or of a wrong class", alpha=0.75
        )
        for bar, total, correct in zip(bars, objects, detected, strict=True):
            text = f"{correct / total:.0%}" if total else ""
            axis.text(bar, total, text, ha="center", va="bottom", fontsize=8, color=INK)
        axis.set_xticks(np.arange(len(edges)) - 0.5, [f"{edge:.0f}" for edge in edges])
        axis.set_xlabel("size of the object: √(width · height), pixels of the image")
        axis.set_ylabel("objects")
        axis.margins(y=0.12)

    return _figure(draw, (7.6, 3.6), legend=bool(len(objects)))


def recall_by_size(metrics: DetectorMetrics) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bins of object size, each √2 wider than the one before.

    Edges in pixels (B + 1), objects (B,) and detected ones (B,) at the threshold in use. Difficult
    objects are not counted.
    """
    sides, detected = [np.zeros(0)], [np.zeros(0, dtype=bool)]
    for outcome in metrics.outcomes:
        objects = outcome.result.ground_truth
        extent = (objects.boxes[:, 2:] - objects.boxes[:, :2]).astype(np.float64)
        sides.append(np.sqrt(extent.prod(axis=1))[~objects.difficult])
        detected.append(outcome.detected[~objects.difficult])
    side, is_detected = np.concatenate(sides), np.concatenate(detected)
    if not len(side):
        return np.zeros(1), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    first = math.floor(2 * math.log2(side.min()))
    last = max(first, math.floor(2 * math.log2(side.max()))) + 1
    edges = 2 ** (np.arange(first, last + 1) / 2)
    bins = np.clip(np.searchsorted(edges, side, side="right") - 1, 0, last - first - 1)
    length = last - first
    every = np.bincount(bins, minlength=length)
    return edges, every, np.bincount(bins[is_detected], minlength=length)


def _fractions(axis: Any, across: str, up: str) -> None:
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1.03)
    axis.set_xlabel(across)
    axis.set_ylabel(up)
    axis.grid(alpha=0.25)


def short(name: str) -> str:
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
        # Letters that the font lacks are boxes in the figure; the page shows them correctly.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(file, dpi=DOTS_PER_INCH, format="png")
    return file.getvalue()
