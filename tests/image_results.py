"""Images with objects and detections, made for tests of the metrics and of what shows them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from evaluation.metrics.results import Detections, GroundTruth, ImageResult

CLASSES = ("ace", "king", "queen")


def boxes_of(rows: Any) -> np.ndarray:
    return np.asarray(rows, dtype=np.float32).reshape(-1, 4)


def result_from_tensors(target: Any, detection: Any) -> ImageResult:
    """From a data set's target and a model's output for its image."""
    return ImageResult.from_target(target, Detections.from_tensors(detection))


def result(
    image_id: int = 0,
    true: Any = (),
    found: Any = (),
    scores: Any = 0.9,
    *,
    true_labels: Any = 1,
    labels: Any = 1,
    difficult: Any = False,
) -> ImageResult:
    """One image; a single score, label or flag is that of every row."""
    true_boxes, boxes = boxes_of(true), boxes_of(found)
    n, m = len(true_boxes), len(boxes)
    truth = GroundTruth(true_boxes, np.full(n, true_labels, np.int64), np.full(n, difficult, bool))
    detections = Detections(boxes, np.full(m, scores, np.float32), np.full(m, labels, np.int64))
    return ImageResult(image_id, truth, detections)


def with_truth(image: ImageResult, **changes: np.ndarray) -> ImageResult:
    """The same image with other fields of its ground truth."""
    truth = dataclasses.replace(image.ground_truth, **changes)
    return dataclasses.replace(image, ground_truth=truth)


def random_boxes(random: np.random.Generator, count: int) -> np.ndarray:
    corner, size = random.uniform(0, 200, (count, 2)), random.uniform(5, 150, (count, 2))
    return np.concatenate([corner, corner + size], axis=1).astype(np.float32)


def random_results(seed: int, classes: int = 3) -> list[ImageResult]:
    """Ten images; detections lie near objects or anywhere; some images lack one or the other."""
    random = np.random.default_rng(seed)
    results = []
    for number in range(10):
        n = 0 if number in (2, 5) else int(random.integers(1, 9))
        true, labels = random_boxes(random, n), random.integers(1, classes + 1, n)
        near = (true + random.normal(0, 4, true.shape)).astype(np.float32)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        stray = random_boxes(random, int(random.integers(0, 6)))
        found = np.concatenate([near, stray])
        found_labels = np.concatenate([labels, random.integers(1, classes + 1, len(stray))])
        keep = random.random(len(found)) < (0 if number in (3, 5) else 0.8)
        results.append(
            result(
                7 + 3 * number,
                true,
                found[keep],
                random.random(len(found))[keep],
                true_labels=labels,
                labels=found_labels[keep],
            )
        )
    return results
