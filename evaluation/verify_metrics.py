"""COCO's numbers as pycocotools computes them, compared with those of our own engine."""

from __future__ import annotations

import math

from evaluation.metrics.coco import CocoEvaluation, CocoMetrics
from evaluation.metrics.pycocotools_reference import pycocotools_metrics
from utils.console import say
from utils.errors import UserError

AUTOMATIC_IMAGES = 1000  # pycocotools needs minutes for tens of thousands
TOLERANCE = 1e-9


def verified_metrics(evaluation: CocoEvaluation, requested: bool | None = None) -> CocoMetrics:
    """pycocotools' numbers where they equal our own; our own where they are not verified.

    Prints which. requested: whether to verify; None: up to 1,000 images. Raises UserError where
    they differ by more than 1e-9.
    """
    images = len(evaluation.results)
    if not (images <= AUTOMATIC_IMAGES if requested is None else requested):
        why = "" if requested is False else f" for {images} images"
        say("metrics", f"not verified with pycocotools{why}; --verify-metrics True does so")
        return evaluation.metrics
    reference = pycocotools_metrics(evaluation.results, evaluation.class_names)
    difference = largest_difference(reference, evaluation.metrics)
    if difference > TOLERANCE:
        raise UserError(
            f"--verify-metrics: pycocotools measures an mAP of {reference.map!r} and this program "
            f"{evaluation.metrics.map!r}; the largest difference of a number is {difference:.3g}, "
            f"more than {TOLERANCE:g}. Please report it; --verify-metrics False shows this "
            "program's numbers."
        )
    say("metrics", f"pycocotools: equal{f' but for {difference:.0e}' if difference else ''}")
    return reference


def largest_difference(one: CocoMetrics, other: CocoMetrics) -> float:
    """Of the twelve numbers and those of each class; infinite where only one of them is nan."""
    if one.objects != other.objects:
        return math.inf
    pairs = [*zip(one.summary, other.summary, strict=True)]
    for name, values in one.class_ap.items():
        pairs += zip(values, other.class_ap[name], strict=True)
    return max(0.0 if math.isnan(a) and math.isnan(b) else _distance(a, b) for a, b in pairs)


def _distance(a: float, b: float) -> float:
    return math.inf if math.isnan(a - b) else abs(a - b)
