"""COCO's numbers from pycocotools itself, and how far ours are from them.

https://github.com/ppwwyyxx/cocoapi is the package that detectors are compared with; it is slower
than ours by orders of magnitude on many images.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.metrics.average_precision import class_average_precision
from evaluation.metrics.coco import CocoEvaluation, CocoMetrics, unique_images
from evaluation.metrics.results import ImageResult
from utils.console import say
from utils.errors import UserError

if TYPE_CHECKING:
    from pycocotools.cocoeval import COCOeval

TOLERANCE = 1e-9
AUTOMATIC_IMAGES = 1000  # pycocotools needs minutes for tens of thousands


def choose_metrics(evaluation: CocoEvaluation, verify: bool | None = None) -> CocoMetrics:
    """pycocotools' numbers, found equal to our own; our own where they are not verified.

    Prints which. verify: None means up to 1,000 images. Raises UserError where the numbers differ
    by more than ``TOLERANCE``.
    """
    images = len(evaluation.results)
    if not (images <= AUTOMATIC_IMAGES if verify is None else verify):
        of = f" for {images} images" if verify is None else ""
        say("metrics", f"not verified with pycocotools{of}; --verify-metrics True does so")
        return evaluation.metrics
    reference = pycocotools_metrics(evaluation.results, evaluation.class_names)
    difference = greatest_difference(evaluation.metrics, reference)
    if difference > TOLERANCE:
        raise UserError(
            f"pycocotools: its metrics differ from this program's by {difference:.3g}, expected at "
            f"most {TOLERANCE:g}; one of the two is wrong: please report it with the data set and "
            "the checkpoint."
        )
    say("metrics", f"pycocotools: equal{f' but for {difference:.0e}' if difference else ''}")
    return reference


def greatest_difference(ours: CocoMetrics, reference: CocoMetrics) -> float:
    """Of all numbers, those of each class included; inf where one is nan and the other is not."""
    first, second = (
        np.array([*metrics.summary, *(x for ap in metrics.class_ap.values() for x in ap)])
        for metrics in (ours, reference)
    )
    if not np.array_equal(np.isnan(first), np.isnan(second)):
        return math.inf
    return float(np.nan_to_num(np.abs(first - second)).max(initial=0.0))


def pycocotools_metrics(results: Sequence[ImageResult], class_names: Sequence[str]) -> CocoMetrics:
    """``CocoEvaluation.metrics``, computed by pycocotools.

    results: one per image; of a repeated image_id the last counts.
    """
    truth, detections = coco_input(unique_images(results), class_names)
    evaluation = run_pycocotools(truth, detections)
    counted = [a["category_id"] for a in truth["annotations"] if a["area"] >= 0]
    return CocoMetrics(
        summary=tuple(math.nan if x < 0 else float(x) for x in evaluation.stats),
        class_ap=class_average_precision(evaluation.eval["precision"][..., 0, -1], class_names),
        objects={name: counted.count(k) for k, name in enumerate(class_names, start=1)},
    )


def coco_input(
    results: Sequence[ImageResult], class_names: Sequence[str]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The contents of pycocotools' two files, the annotations and the detections.

    Objects and detections are numbered from 1 in the order of the results, one per image_id.
    """
    annotations: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    for r in results:
        truth, predicted = r.ground_truth, r.detections
        for box, label, difficult, crowd in _rows(
            truth.boxes, truth.labels, truth.difficult, truth.is_crowd
        ):
            annotation = {
                "id": len(annotations) + 1,  # 0 would mean "not matched"
                # No area range holds a negative area, so the object is ignored in all of them.
                "area": -1.0 if difficult else (box[2] - box[0]) * (box[3] - box[1]),
                "iscrowd": int(crowd),
            }
            annotations.append({**annotation, **_box(r.image_id, label, box)})
        for box, label, score in _rows(predicted.boxes, predicted.labels, predicted.scores):
            detections.append({**_box(r.image_id, label, box), "score": score})
    categories = [{"id": k, "name": name} for k, name in enumerate(class_names, start=1)]
    images = [{"id": r.image_id} for r in results]
    return {"images": images, "categories": categories, "annotations": annotations}, detections


def _rows(*columns: np.ndarray) -> Iterator[tuple[Any, ...]]:
    return zip(*(column.tolist() for column in columns), strict=True)


def _box(image_id: int, label: int, box: Sequence[float]) -> dict[str, Any]:
    left, top, right, bottom = box
    xywh = [left, top, right - left, bottom - top]
    return {"image_id": image_id, "category_id": label, "bbox": xywh}


def run_pycocotools(truth: dict[str, Any], detections: list[dict[str, Any]]) -> COCOeval:
    """pycocotools' evaluation after all its steps. It adds fields to what it gets."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    ground_truth, predicted = COCO(), COCO()
    with contextlib.redirect_stdout(io.StringIO()):
        for content, annotations in ((ground_truth, truth["annotations"]), (predicted, [])):
            content.dataset = {**truth, "annotations": annotations}
            content.createIndex()
        if detections:  # it cannot load an empty list
            predicted = ground_truth.loadRes(detections)
        evaluation = COCOeval(ground_truth, predicted, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation
