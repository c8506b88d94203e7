"""Detection metrics over plain arrays; pycocotools does the counting.

COCO's definitions: Lin et al., https://arxiv.org/abs/1405.0312.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from utils.boxes import to_xywh

MAX_DETECTIONS = 100
# pycocotools ignores an object whose area lies outside every range, at every object size.
IGNORED_AREA = -1.0
# Of a detection: it found no object; it counts for nothing.
FALSE, IGNORED = -1, -2

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
    """pycocotools' evaluation of some images, run once and asked several questions.

    results: one entry an image; a repeated image_id counts once. Detections beyond 100 an image
    and class do not count. ``coco`` is pycocotools' own COCOeval after ``evaluate()``.
    """

    def __init__(self, results: Sequence[ImageResult], class_names: Sequence[str]) -> None:
        self.results = unique_images(results)
        self.class_names = tuple(class_names)
        self.objects = {
            name: sum(int(((r.true_labels == k) & ~r.difficult).sum()) for r in self.results)
            for k, name in enumerate(class_names, start=1)
        }
        self.coco = _evaluate(self.results, len(self.class_names))

    @cached_property
    def metrics(self) -> CocoMetrics:
        """The twelve numbers, and those of each class."""
        if not any(self.objects.values()):
            nan = math.nan
            classes = dict.fromkeys(self.class_names, (nan,) * 3)
            return CocoMetrics((nan,) * 12, classes, self.objects)
        precision = self._precision
        class_ap = {
            name: (_mean(precision[:, :, k]), _mean(precision[0, :, k]), _mean(precision[5, :, k]))
            for k, name in enumerate(self.class_names)
        }
        summary = tuple(math.nan if x < 0 else float(x) for x in self.coco.stats)
        return CocoMetrics(summary, class_ap, self.objects)

    def precision_curves(self) -> dict[str, np.ndarray]:
        """Precision at IoU 0.5 and recall 0, 0.01, ..., 1 of each class; nan without objects."""
        return {
            name: np.where(self._precision[0, :, k] < 0, np.nan, self._precision[0, :, k])
            for k, name in enumerate(self.class_names)
        }

    def objects_found(self) -> list[np.ndarray]:
        """What COCO's rule matched at IoU 0.5: an int (M,) array an image, in ``results``' order.

        The index of the object that a detection found under its name, ``FALSE`` for a false one
        and ``IGNORED`` for one that lies on a difficult object or beyond the 100.
        """
        of_annotation = [(row, i) for row, r in enumerate(self.results) for i in range(r.objects)]
        of_detection = [(row, i) for row, r in enumerate(self.results) for i in range(len(r.boxes))]
        found = [np.full(len(r.boxes), IGNORED) for r in self.results]
        everywhere = self.coco.params.areaRng[0]
        for image in filter(None, self.coco.evalImgs):
            if image["aRng"] != everywhere:
                continue
            matches, ignored = image["dtMatches"][0], image["dtIgnore"][0]
            for number, match, ignore in zip(image["dtIds"], matches, ignored, strict=True):
                row, column = of_detection[number - 1]  # ids begin at 1, in the order given
                if not ignore:
                    found[row][column] = of_annotation[int(match) - 1][1] if match else FALSE
        return found

    @property
    def _precision(self) -> np.ndarray:
        # (IoU thresholds, recall steps, classes), of all areas, with 100 detections
        return self.coco.eval["precision"][:, :, :, 0, -1]


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


def _evaluate(results: Sequence[ImageResult], num_classes: int) -> Any:
    # pycocotools prints its progress, and importing it is slow: both stay out of the way.
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = {
        "images": [{"id": r.image_id} for r in results],
        "categories": [{"id": k} for k in range(1, num_classes + 1)],
        "annotations": [a for r in results for a in _annotations(r)],
    }
    for number, annotation in enumerate(truth["annotations"], start=1):
        annotation["id"] = number  # from 1: pycocotools takes id 0 for "not matched"
    detections = [d for r in results for d in _detections(r)]
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO()
        ground_truth.dataset = truth
        ground_truth.createIndex()
        if detections:
            found = ground_truth.loadRes(detections)
        else:
            found = COCO()
            found.dataset = {**truth, "annotations": []}
            found.createIndex()
        evaluation = COCOeval(ground_truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def _annotations(result: ImageResult) -> list[dict[str, Any]]:
    crowd = np.zeros(result.objects, dtype=bool) if result.crowd is None else result.crowd
    boxes = to_xywh(result.true_boxes).tolist()
    rows = zip(boxes, result.true_labels, result.difficult, crowd, strict=True)
    return [
        {
            "image_id": result.image_id,
            "category_id": int(label),
            "bbox": box,
            "area": IGNORED_AREA if difficult else box[2] * box[3],
            "iscrowd": int(region),
        }
        for box, label, difficult, region in rows
    ]


def _detections(result: ImageResult) -> list[dict[str, Any]]:
    rows = zip(to_xywh(result.boxes).tolist(), result.labels, result.scores, strict=True)
    return [
        {
            "image_id": result.image_id,
            "category_id": int(label),
            "bbox": box,
            "score": float(score),
        }
        for box, label, score in rows
    ]


def _mean(precision: np.ndarray) -> float:
    measured = precision[precision > -1]
    return float(measured.mean()) if measured.size else math.nan


def _array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
