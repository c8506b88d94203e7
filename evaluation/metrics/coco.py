"""Detection metrics over plain arrays: COCO's numbers.

COCO's definitions: Lin et al., https://arxiv.org/abs/1405.0312. pycocotools is the reference, whose
numbers these are to the last digits.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from evaluation.metrics.average_precision import LIMITS, Curves, curves
from evaluation.metrics.coco_matching import SIZES, Boxes, Matches, match

# Of a detection: it found no object; it counts for nothing.
FALSE, IGNORED = -1, -2

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
class ImageResult:
    """Objects and detections of one image, in pixels of the same image.

    true_boxes: (N, 4) xyxy. true_labels: (N,), 1..K. difficult: bool (N,), neither rewarded when
    found nor missed when not. boxes: (M, 4) xyxy. scores: (M,). labels: (M,). All NumPy.
    crowd: bool (N,), which of the difficult are regions of COCO's ``iscrowd``: they excuse every
    detection that mostly lies in them, and not only the one that fits; None for none.
    """

    image_id: int
    true_boxes: np.ndarray
    true_labels: np.ndarray
    difficult: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray | None = None

    @property
    def objects(self) -> int:
        """Difficult ones counted."""
        return len(self.true_boxes)

    def keep(self, detections: np.ndarray) -> ImageResult:
        """The same image with some of its detections: a bool (M,) or indices."""
        return dataclasses.replace(
            self,
            boxes=self.boxes[detections],
            scores=self.scores[detections],
            labels=self.labels[detections],
        )

    @classmethod
    def from_tensors(cls, target: Mapping[str, Any], detection: Mapping[str, Any]) -> ImageResult:
        """From a target (``boxes``, ``labels``, ``difficult``, ``image_id``) and a detection.

        A detection of label 0, background, names no object and is left out.
        """
        every = cls(
            image_id=int(target["image_id"]),
            true_boxes=_array(target["boxes"]),
            true_labels=_array(target["labels"]),
            difficult=_array(target["difficult"]),
            boxes=_array(detection["boxes"]),
            scores=_array(detection["scores"]),
            labels=_array(detection["labels"]),
            crowd=_array(target["crowd"]) if "crowd" in target else None,
        )
        return every.keep(every.labels > 0)


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
        labels = _joined([r.true_labels[~r.difficult] for r in self.results], np.int64)
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

    def objects_found(self) -> list[np.ndarray]:
        """What COCO's rule matched at IoU 0.5: an int (M,) array an image, in ``results``' order.

        The index of the object that a detection found under its name, ``FALSE`` for a false one
        and ``IGNORED`` for one that lies on a difficult object or beyond the 100.
        """
        matches = self.matches
        first_object = np.cumsum([0, *(r.objects for r in self.results)])
        ends = np.cumsum([0, *(len(r.boxes) for r in self.results)])
        decided = np.where(matches.sized[0], FALSE, IGNORED)
        index = matches.found - first_object[matches.image[matches.near]]
        decided[matches.near] = np.where(matches.true[0, 0], index, decided[matches.near])
        decided[matches.near[matches.excused[0, 0]]] = IGNORED
        found = np.full(ends[-1], IGNORED)
        found[matches.row] = decided
        return [found[start:end] for start, end in zip(ends[:-1], ends[1:], strict=True)]

    @cached_property
    def _curves(self) -> Curves:
        return curves(self.matches)

    def _metrics(self, measured: Curves) -> CocoMetrics:
        precision = measured.precision[..., 0]
        class_ap = {
            name: (_mean(precision[:, :, k]), _mean(precision[0, :, k]), _mean(precision[5, :, k]))
            for k, name in enumerate(self.class_names)
        }
        summary = tuple(_summary(measured, *row) for row in SUMMARY_ROWS)
        return CocoMetrics(summary, class_ap, self.objects)


def _summary(measured: Curves, kind: str, iou: str, area: str, detections: int) -> float:
    """One of ``SUMMARY_ROWS``."""
    size = list(SIZES).index(area)
    if kind == "AP":
        return _mean(measured.precision[IOU_STEPS[iou], :, :, size])
    return _mean(measured.recall[IOU_STEPS[iou], :, size, LIMITS.index(detections)])


def coco_metrics(results: Sequence[ImageResult], class_names: Sequence[str]) -> CocoMetrics:
    """COCO metrics of all images at once, whatever batches they came in.

    results: one entry an image; a repeated image_id counts once. Classes without an object are nan
    and left out of the mean. Detections beyond 100 an image and class do not count.
    """
    return CocoEvaluation(results, class_names).metrics


def unique_images(results: Sequence[ImageResult]) -> list[ImageResult]:
    """Each image once, by its id; of a repeated one the last."""
    return sorted({r.image_id: r for r in results}.values(), key=lambda r: r.image_id)


def above(results: Sequence[ImageResult], score: float) -> list[ImageResult]:
    """The same images without the detections whose score is lower than ``score``."""
    return [r.keep(r.scores >= score) for r in results]


def show(value: float) -> str:
    """A metric for people: ``0.412``, or ``n/a`` for nan."""
    return "n/a" if math.isnan(value) else f"{value:.3f}"


def _match(results: Sequence[ImageResult], num_classes: int) -> Matches:
    crowd = [np.zeros(r.objects, bool) if r.crowd is None else r.crowd for r in results]
    return match(
        _boxes([r.true_labels for r in results], [r.true_boxes for r in results]),
        _joined([r.difficult for r in results], np.bool_),
        _joined(crowd, np.bool_),
        _boxes([r.labels for r in results], [r.boxes for r in results]),
        _joined([r.scores for r in results], np.float32),
        num_classes,
    )


def _boxes(labels: Sequence[np.ndarray], boxes: Sequence[np.ndarray]) -> Boxes:
    image = np.repeat(np.arange(len(labels)), [len(x) for x in labels])
    flat = [np.zeros((0, 4), np.float32), *(x.reshape(-1, 4) for x in boxes)]
    return Boxes(image, _joined(labels, np.int64), np.concatenate(flat))


def _joined(parts: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    """One array of this type or of a wider one, if a part needs it."""
    return np.concatenate([np.zeros(0, dtype), *parts])


def _mean(precision: np.ndarray) -> float:
    measured = precision[precision > -1]
    return float(measured.mean()) if measured.size else math.nan


def _array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
