"""Detection metrics over plain arrays: COCO's numbers.

COCO's definitions: Lin et al., https://arxiv.org/abs/1405.0312. pycocotools is the reference, whose
numbers these are to the last digits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from evaluation.metrics.average_precision import (
    LIMITS,
    Curves,
    class_average_precision,
    curves,
    mean,
)
from evaluation.metrics.coco_matching import AREA_RANGES, Boxes, Matches, match
from evaluation.metrics.results import ImageResult, joined

# A detection that matches no object, and one that does not count.
FALSE_POSITIVE, IGNORED = -1, -2

# The steps of IoU that a row is averaged over.
IOU_STEPS = {"0.50:0.95": slice(None), "0.50": slice(0, 1), "0.75": slice(5, 6)}
SUMMARY_ROWS = (
    ("AP", "0.50:0.95", "all", 100),
    ("AP", "0.50", "all", 100),
    ("AP", "0.75", "all", 100),
    ("AP", "0.50:0.95", "small", 100),
    ("AP", "0.50:0.95", "medium", 100),
    ("AP", "0.50:0.95", "large", 100),
    ("AR", "0.50:0.95", "all", 1),
    ("AR", "0.50:0.95", "all", 10),
    ("AR", "0.50:0.95", "all", 100),
    ("AR", "0.50:0.95", "small", 100),
    ("AR", "0.50:0.95", "medium", 100),
    ("AR", "0.50:0.95", "large", 100),
)


@dataclass(frozen=True)
class CocoMetrics:
    """COCO's numbers as fractions 0..1; what cannot be measured is nan.

    summary: the twelve of ``SUMMARY_ROWS``. class_ap: AP at IoU 0.50:0.95, AP50 and AP75 of each
    class. objects: objects of each class, difficult ones not counted.
    """

    summary: tuple[float, ...]
    class_ap: dict[str, tuple[float, float, float]]
    objects: dict[str, int]

    @property
    def map(self) -> float:
        """AP averaged over IoU 0.50 to 0.95 and over the classes."""
        return self.summary[0]

    @property
    def map_50(self) -> float:
        return self.summary[1]

    @property
    def map_75(self) -> float:
        return self.summary[2]


class CocoEvaluation:
    """COCO's evaluation of some images, matched once and asked several questions.

    results: one entry an image; a repeated image_id counts once. Detections beyond 100 an image
    and class do not count. ``matches`` is what was matched, images by their place in ``results``.
    """

    def __init__(self, results: Sequence[ImageResult], class_names: Sequence[str]) -> None:
        self.results = unique_images(results)
        self.class_names = tuple(class_names)
        truth = [r.ground_truth for r in self.results]
        labels = joined([t.labels[~t.difficult] for t in truth], np.int64)
        counts = np.bincount(labels, minlength=len(self.class_names) + 1).tolist()
        self.objects = dict(zip(self.class_names, counts[1:], strict=False))
        self.matches = _match(self.results, len(self.class_names))

    @cached_property
    def metrics(self) -> CocoMetrics:
        """The twelve numbers, and those of each class."""
        return self._metrics(self._curves)

    def metrics_above(self, score: float) -> CocoMetrics:
        """The same without the detections whose score is lower than ``score``."""
        return self._metrics(curves(self.matches.above(score)))

    def precision_curves(self) -> dict[str, np.ndarray]:
        """Precision at IoU 0.5 and recall 0, 0.01, ..., 1 of each class; nan without objects."""
        precision = self._curves.precision[0, :, :, 0]
        return {
            name: np.where(precision[:, k] < 0, np.nan, precision[:, k])
            for k, name in enumerate(self.class_names)
        }

    @cached_property
    def matched_objects(self) -> list[np.ndarray]:
        """What COCO's rule matched at IoU 0.5: an int (M,) array per image, as in ``results``.

        For a true positive the index of its object, else ``FALSE_POSITIVE``, or ``IGNORED`` for a
        detection that matches a difficult object or is beyond the 100.
        """
        matches, candidates = self.matches, self.matches.candidates
        first_object = np.cumsum([0, *(len(r.ground_truth) for r in self.results)])
        ends = np.cumsum([0, *(len(r.detections) for r in self.results)])
        decided = np.where(matches.in_area_range[0], FALSE_POSITIVE, IGNORED)
        index = matches.matched_object - first_object[matches.image[candidates]]
        decided[candidates] = np.where(matches.true_positive[0, 0], index, decided[candidates])
        decided[candidates[matches.ignored[0, 0]]] = IGNORED
        matched = np.full(ends[-1], IGNORED)
        matched[matches.input_row] = decided
        return [matched[start:end] for start, end in zip(ends[:-1], ends[1:], strict=True)]

    @cached_property
    def _curves(self) -> Curves:
        return curves(self.matches)

    def _metrics(self, measured: Curves) -> CocoMetrics:
        class_ap = class_average_precision(measured.precision[..., 0], self.class_names)
        summary = tuple(_summary(measured, *row) for row in SUMMARY_ROWS)
        return CocoMetrics(summary, class_ap, self.objects)


def _summary(measured: Curves, kind: str, iou: str, area: str, detections: int) -> float:
    """One of ``SUMMARY_ROWS``."""
    size = list(AREA_RANGES).index(area)
    if kind == "AP":
        return mean(measured.precision[IOU_STEPS[iou], :, :, size])
    return mean(measured.recall[IOU_STEPS[iou], :, size, LIMITS.index(detections)])


def unique_images(results: Sequence[ImageResult]) -> list[ImageResult]:
    """Each image once, by its id; of a repeated one the last."""
    return sorted({r.image_id: r for r in results}.values(), key=lambda r: r.image_id)


def show(value: float) -> str:
    """A metric for people: ``0.412``, or ``n/a`` for nan."""
    return "n/a" if math.isnan(value) else f"{value:.3f}"


def _match(results: Sequence[ImageResult], num_classes: int) -> Matches:
    truth, detections = [r.ground_truth for r in results], [r.detections for r in results]
    return match(
        _boxes([t.labels for t in truth], [t.boxes for t in truth]),
        joined([t.difficult for t in truth], np.bool_),
        joined([t.is_crowd for t in truth], np.bool_),
        _boxes([d.labels for d in detections], [d.boxes for d in detections]),
        joined([d.scores for d in detections], np.float32),
        num_classes,
    )


def _boxes(labels: Sequence[np.ndarray], boxes: Sequence[np.ndarray]) -> Boxes:
    image = np.repeat(np.arange(len(labels)), [len(x) for x in labels])
    flat = [np.zeros((0, 4), np.float32), *(x.reshape(-1, 4) for x in boxes)]
    return Boxes(image, joined(labels, np.int64), np.concatenate(flat))
