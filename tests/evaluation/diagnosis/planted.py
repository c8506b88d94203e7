"""Data sets and results with a planted fault, for the tests of the diagnosis."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.models.detection import RetinaNet

from data.dataset import Annotation, Dataset, DataSplits
from evaluation.diagnosis.facts import Facts
from evaluation.diagnosis.finding import Finding
from evaluation.diagnosis.gather import gather_facts
from evaluation.diagnosis.rank import diagnose
from evaluation.metrics.coco import CocoEvaluation
from evaluation.metrics.operating_point import OperatingPoints
from evaluation.metrics.results import Detections, GroundTruth, ImageResult
from model.efficient_retinanet import get_efficient_retinanet
from model.network.forward import losses_and_detections
from tests.data_sets import draw_image
from tests.image_results import result_from_tensors

NAMES = ("ace", "king", "queen", "jack")
SIZE = (64, 48)


def build(**options: Any) -> RetinaNet:
    return get_efficient_retinanet(
        len(NAMES) + 1,
        **{"backbone_weights": "none", "image_size": 64, "anchor_scale": 0.25, **options},
    ).eval()


def labelled(images: int, side: float = 24, folder: Path | None = None) -> list[Annotation]:
    """Two objects per image, the classes one after another."""
    annotations = []
    for i in range(images):
        boxes = np.array([[4, 6, 4 + side, 6 + side], [34, 20, 34 + side, 20 + side]], np.float32)
        names = (NAMES[i % len(NAMES)], NAMES[(i + 1) % len(NAMES)])
        path = Path(f"{i}.png")
        if folder:
            things = [(n, *map(float, b)) for n, b in zip(names, boxes, strict=True)]
            path = draw_image(folder / path.name, things)  # type: ignore[arg-type]
        annotations.append(Annotation(path, boxes, names, np.zeros(2, bool), SIZE))
    return annotations


def splits_of(train: list[Annotation], validation: list[Annotation] | None = None) -> DataSplits:
    validation = train if validation is None else validation
    return DataSplits(Dataset(train, NAMES), Dataset(validation, NAMES), "drawn")


def correct(label: int, index: int) -> int:
    return label


def shuffled(label: int, index: int) -> int:
    return int(np.random.default_rng(index).integers(1, len(NAMES) + 1))


def results_of(
    splits: DataSplits, predict: Callable[[int, int], int] = correct, *, score: float = 0.9
) -> list[ImageResult]:
    """Detections exactly on the objects; ``predict`` gives the label from the annotated one."""
    numbers, dataset, results = count(), splits.validation, []
    for row, annotation in enumerate(dataset.annotations):
        labels = np.array(dataset.labels(row), dtype=np.int64)
        predicted = np.array([predict(k, next(numbers)) for k in labels.tolist()], dtype=np.int64)
        scores = np.full(len(labels), score, np.float32)
        truth = GroundTruth(annotation.boxes, labels, annotation.difficult)
        results.append(ImageResult(row, truth, Detections(truth.boxes.copy(), scores, predicted)))
    return results


def nothing_detected(splits: DataSplits) -> list[ImageResult]:
    return [r.with_detections(r.detections.above(1)) for r in results_of(splits)]


def results_of_the_model(model: RetinaNet, splits: DataSplits) -> list[ImageResult]:
    samples = [splits.validation[i] for i in range(len(splits.validation))]
    images = [image.float() / 255 for image, _ in samples]
    with torch.no_grad():
        _, detections = losses_and_detections(model, images, None)
    targets = [target for _, target in samples]
    return [result_from_tensors(t, d) for t, d in zip(targets, detections, strict=True)]


def facts_of(
    model: RetinaNet,
    splits: DataSplits,
    results: list[ImageResult],
    threshold: float = 0.5,
    **more: Any,
) -> Facts:
    evaluation = CocoEvaluation(results, NAMES)
    points, more = OperatingPoints(evaluation), {"pretrained": False, "training": {}, **more}
    return gather_facts(model, splits, evaluation, points, threshold, **more)


def findings_of(
    model: RetinaNet, splits: DataSplits, results: list[ImageResult], threshold: float = 0.5
) -> list[Finding]:
    return diagnose(facts_of(model, splits, results, threshold))


def titles_of(
    model: RetinaNet, splits: DataSplits, results: list[ImageResult], threshold: float = 0.5
) -> list[str]:
    return [finding.title for finding in findings_of(model, splits, results, threshold)]
