"""COCO's evaluation: the twelve numbers, those of each class, and the matches behind them.

Lin et al., https://arxiv.org/abs/1405.0312. The numbers are those of pycocotools, see
``pycocotools_reference``.
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
    mean_measured,
)
from evaluation.metrics.coco_matching import AREA_RANGES, MAX_DETECTIONS, Boxes, match
from evaluation.metrics.results import Detections, GroundTruth, ImageResult, joined

# A detection that matches no object, and one that does not count.
FALSE_POSITIVE, IGNORED = -1, -2

# The IoU thresholds, as in ``IOU_THRESHOLDS``, that a row is the mean of.
IOU_ROWS = {"0.50:0.95": slice(None), "0.50": slice(0, 1), "0.75": slice(5, 6)}
SIZES = ("small", "medium", "large")
SUMMARY_ROWS = (
    *(("AP", iou, "all", MAX_DETECTIONS) for iou in IOU_ROWS),
    *(("AP", "0.50:0.95", size, MAX_DETECTIONS) for size in SIZES),
    *(("AR", "0.50:0.95", "all", limit) for limit in LIMITS),
    *(("AR", "0.50:0.95", size, MAX_DETECTIONS) for size in SIZES),
)


@dataclass(frozen=True)
class CocoMetrics:
    """COCO's numbers as fractions 0..1, nan without objects.

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
    """COCO's evaluation of all images at once, whatever batches they came in.

    results: one per image; of a repeated image_id the last counts. After the 100 highest-scoring
    detections of an image and class the others are ignored. ``results`` are sorted by image_id,
    ``matches`` has each image's index in them, and ``objects`` each class's number of objects,
    difficult ones left out.
    """

    def __init__(self, results: Sequence[ImageResult], class_names: Sequence[str]) -> None:
        self.results = unique_images(results)
        self.class_names = tuple(class_names)
        truth = [r.ground_truth for r in self.results]
        labels = joined([t.labels[~t.difficult] for t in truth], np.int64)
        counts = np.bincount(labels, minlength=len(self.class_names) + 1).tolist()
        self.objects = dict(zip(self.class_names, counts[1:], strict=False))
        detections = [r.detections for r in self.results]
        self.matches = match(
            _boxes(truth),
            joined([t.difficult for t in truth], np.bool_),
            joined([t.is_crowd for t in truth], np.bool_),
            _boxes(detections),
            joined([d.scores for d in detections], np.float32),
            len(self.class_names),
        )

    @cached_property
    def metrics(self) -> CocoMetrics:
        """The mean over the classes leaves out those without objects."""
        return self._metrics(self._curves)

    def metrics_above(self, score: float) -> CocoMetrics:
        """``metrics`` without the detections whose score is lower than ``score``."""
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
        """The matches of COCO's rule at IoU 0.5: an int (M,) array per image, as in ``results``.

        A true positive has the index of its object, every other detection ``FALSE_POSITIVE`` or,
        matched to a difficult object or beyond the 100, ``IGNORED``.
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
    area_range = list(AREA_RANGES).index(area)
    if kind == "AP":
        return mean_measured(measured.precision[IOU_ROWS[iou], :, :, area_range])
    return mean_measured(measured.recall[IOU_ROWS[iou], :, area_range, LIMITS.index(detections)])


def unique_images(results: Sequence[ImageResult]) -> list[ImageResult]:
    """Each image once, by its id; of a repeated one the last."""
    return sorted({r.image_id: r for r in results}.values(), key=lambda r: r.image_id)


def show(value: float) -> str:
    """A metric for people: ``0.412``, or ``n/a`` for nan."""
    return "n/a" if math.isnan(value) else f"{value:.3f}"


def _boxes(images: Sequence[GroundTruth] | Sequence[Detections]) -> Boxes:
    image = np.repeat(np.arange(len(images)), [len(x) for x in images])
    flat = [np.zeros((0, 4), np.float32), *(x.boxes.reshape(-1, 4) for x in images)]
    return Boxes(image, joined([x.labels for x in images], np.int64), np.concatenate(flat))
