"""pycocotools, run the plain way on what the official files would hold."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from evaluation.metrics.coco import FALSE_POSITIVE, IGNORED
from evaluation.metrics.results import ImageResult


def official(results: Sequence[ImageResult], num_classes: int) -> COCOeval:
    """The official tool after all its steps; images in the order of their ids."""
    return evaluated(*official_input(results, num_classes))


def official_input(
    results: Sequence[ImageResult], num_classes: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the official tool would read from its two files."""
    truth, detections = _truth(results, num_classes), _detections(results)
    return json.loads(json.dumps(truth)), json.loads(json.dumps(detections))


def evaluated(truth: dict[str, Any], detections: list[dict[str, Any]]) -> COCOeval:
    """The official tool after all its steps, which add to what it is given."""
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth, found = COCO(), COCO()
        ground_truth.dataset = truth
        found.dataset = {**truth, "annotations": []}
        ground_truth.createIndex()
        found.createIndex()
        if detections:  # it cannot load none
            found = ground_truth.loadRes(detections)
        evaluation = COCOeval(ground_truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def official_matched_objects(
    results: Sequence[ImageResult], evaluation: COCOeval
) -> list[list[int]]:
    """What ``CocoEvaluation.matched_objects`` promises, read from the official tool."""
    of_annotation = [i for r in results for i in range(len(r.ground_truth))]
    of_detection = [(row, i) for row, r in enumerate(results) for i in range(len(r.detections))]
    found = [[IGNORED] * len(r.detections) for r in results]
    for image in filter(None, evaluation.evalImgs):
        if image["aRng"] == evaluation.params.areaRng[0]:
            rows = zip(image["dtIds"], image["dtMatches"][0], image["dtIgnore"][0], strict=True)
            for number, match, ignored in rows:
                row, column = of_detection[number - 1]
                if not ignored:
                    found[row][column] = of_annotation[int(match) - 1] if match else FALSE_POSITIVE
    return found


def _truth(results: Sequence[ImageResult], num_classes: int) -> dict[str, Any]:
    annotations = []
    for r in results:
        t = r.ground_truth
        rows = zip(t.boxes.tolist(), t.labels, t.difficult, t.is_crowd, strict=True)
        for (x, y, right, bottom), label, difficult, region in rows:
            width, height = right - x, bottom - y
            annotations.append(
                {
                    "id": len(annotations) + 1,  # 0 would mean "not matched"
                    "image_id": r.image_id,
                    "category_id": int(label),
                    "bbox": [x, y, width, height],
                    # An area outside every range is ignored at every size.
                    "area": -1 if difficult else width * height,
                    "iscrowd": int(region),
                }
            )
    return {
        "images": [{"id": r.image_id} for r in results],
        "categories": [{"id": k + 1, "name": str(k)} for k in range(num_classes)],
        "annotations": annotations,
    }


def _detections(results: Sequence[ImageResult]) -> list[dict[str, Any]]:
    return [
        {
            "image_id": r.image_id,
            "category_id": int(label),
            "bbox": [x, y, right - x, bottom - y],
            "score": float(score),
        }
        for r in results
        for (x, y, right, bottom), label, score in zip(
            r.detections.boxes.tolist(), r.detections.labels, r.detections.scores, strict=True
        )
    ]
