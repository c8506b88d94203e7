"""The pictures a run or a monitor leaves: curves, and detections beside ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.dataset import Dataset
from evaluation.metrics.results import ImageResult
from utils.run_folder import read_metrics
from utils.visualisation import draw_boxes, draw_curves, image_grid

IMAGES_SHOWN = 12


def save_curves(metrics: Path, path: Path) -> None:
    """Losses, mAP and learning rate over the epochs of a ``metrics.csv``, as one PNG."""
    rows = read_metrics(metrics)

    def column(name: str) -> list[float]:
        return [row.get(name, float("nan")) for row in rows]

    panels = {
        "loss": {
            "training": column("loss"),
            "classification": column("loss_classification"),
            "boxes": column("loss_bbox_regression"),
            "validation": column("val_loss"),
        },
        "validation mAP": {name: column(name) for name in ("mAP", "mAP50", "mAP75")},
        "learning rate": {"learning rate": column("learning_rate")},
    }
    draw_curves(panels, [int(row["epoch"]) for row in rows], path)


def save_detections(
    results: Sequence[ImageResult], dataset: Dataset, path: Path, threshold: float
) -> None:
    """A grid of images spread over the data set: ground truth left, detections right.

    results: of the data set's images, by their image_id. threshold: scores below are not drawn.
    """
    count = min(IMAGES_SHOWN, len(results))
    names = dataset.class_names
    pairs = []
    for result in (results[i * len(results) // count] for i in range(count)):
        sample = dataset.readable_sample(result.image_id)
        if sample is None:
            continue
        # The highest-scoring last: what is drawn last is seen whole.
        shown = result.detections.above(threshold)
        shown = shown.keep(np.argsort(shown.scores, kind="stable"))
        rows = zip(shown.labels, shown.scores, strict=True)
        captions = [f"{names[k - 1]} {score:.2f}" for k, score in rows]
        objects = result.ground_truth
        annotated = [names[k - 1] for k in objects.labels]
        truth = draw_boxes(sample.image, objects.boxes, objects.labels, annotated)
        pairs.append((truth, draw_boxes(sample.image, shown.boxes, shown.labels, captions)))
    if not pairs:
        return
    image_grid(pairs, ("ground truth", f"detections, score >= {threshold:g}")).save(path)
