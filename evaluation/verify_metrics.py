"""Which COCO numbers the monitor shows: pycocotools' own, where they are compared with ours."""

from __future__ import annotations

from evaluation.metrics.coco import CocoEvaluation, CocoMetrics
from evaluation.metrics.pycocotools_reference import verified_metrics
from utils.console import say

AUTOMATIC_IMAGES = 1000  # pycocotools needs minutes for tens of thousands


def choose_metrics(evaluation: CocoEvaluation, verify: bool | None = None) -> CocoMetrics:
    """pycocotools' numbers, found equal to our own; our own where they are not verified.

    Prints which. verify: None means up to 1,000 images. Raises UserError where the numbers differ
    by more than 1e-9.
    """
    images = len(evaluation.results)
    if not (images <= AUTOMATIC_IMAGES if verify is None else verify):
        of = f" for {images} images" if verify is None else ""
        say("metrics", f"not verified with pycocotools{of}; --verify-metrics True does so")
        return evaluation.metrics
    metrics, difference = verified_metrics(evaluation)
    say("metrics", f"pycocotools: equal{f' but for {difference:.0e}' if difference else ''}")
    return metrics
