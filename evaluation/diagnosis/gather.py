"""Gathers the facts that a diagnosis needs, from the model, the data and the results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torchvision.models.detection import RetinaNet
from torchvision.ops import FrozenBatchNorm2d

from data.dataset import Dataset, DataSplits
from evaluation.diagnosis.anchor_fit import AnchorFit, anchor_fit
from evaluation.diagnosis.facts import Facts, ParameterFacts, ThresholdFacts
from evaluation.metrics.box_ops import iou
from evaluation.metrics.coco import CocoEvaluation
from evaluation.metrics.coco_matching import MAX_DETECTIONS
from evaluation.metrics.operating_point import LOWEST_SCORE, OperatingPoints
from evaluation.metrics.outcomes import SAME_PLACE
from evaluation.metrics.results import ImageResult, joined

ANCHOR_IMAGES = 500


def gather_facts(
    model: RetinaNet,
    splits: DataSplits,
    evaluation: CocoEvaluation,
    points: OperatingPoints,
    threshold: float,
    *,
    pretrained: bool,
    training: Mapping[str, float],
) -> Facts:
    """Measure what a diagnosis needs. Nothing is changed and no image is decoded.

    model: the one that trains; averaged weights do not train and would hide what is frozen.
    evaluation, points: of the validation images. threshold: the score threshold in use. pretrained:
    whether the backbone was built for pretrained weights. training: see ``Facts.training``; may be
    empty.
    """
    results = [r.with_detections(r.detections.above(LOWEST_SCORE)) for r in evaluation.results]
    scores = joined([r.detections.scores for r in results], np.float32)
    recall_any, recall_named, names = _recalls_and_names(results, len(evaluation.class_names))
    return Facts(
        images=len(results),
        objects=evaluation.objects,
        training_objects=dict(splits.train.label_counts()),
        recall_any=recall_any,
        recall_named=recall_named,
        names=names,
        detections=len(scores),
        highest_score=float(scores.max()) if len(scores) else math.nan,
        threshold=_threshold_facts(points, scores, threshold),
        anchors=anchor_facts(model, splits.train),
        parameters=parameter_facts(model, pretrained),
        training=dict(training),
    )


def _recalls_and_names(
    results: Sequence[ImageResult], num_classes: int
) -> tuple[float, float, tuple[tuple[int, ...], ...]]:
    """``recall_any``, ``recall_named`` and ``names`` of ``Facts``.

    For the names a detection belongs to the object that it overlaps most, so that the
    highest-scoring detection of an object does not name its neighbour too.
    """
    names = np.zeros((num_classes, num_classes), dtype=np.int64)
    objects = detected = named = 0
    for image in results:
        truth = image.ground_truth
        counted = np.flatnonzero(~truth.difficult)
        objects += len(counted)
        by_score = np.argsort(-image.detections.scores, kind="stable")
        best = image.detections.keep(by_score[:MAX_DETECTIONS])
        if not len(counted) or not len(best):
            continue
        overlap = iou(best.boxes, truth.boxes)
        lies_on = overlap >= SAME_PLACE
        same_class = best.labels[:, None] == truth.labels
        detected += int(lies_on[:, counted].any(axis=0).sum())
        named += int((lies_on & same_class)[:, counted].any(axis=0).sum())
        belongs_to = lies_on & (overlap.argmax(axis=1)[:, None] == np.arange(len(truth)))
        rows = counted[belongs_to[:, counted].any(axis=0)]
        predicted = best.labels[belongs_to[:, rows].argmax(axis=0)]
        np.add.at(names, (truth.labels[rows] - 1, predicted - 1), 1)
    matrix = tuple(tuple(row) for row in names.tolist())
    if not objects:
        return math.nan, math.nan, matrix
    return detected / objects, named / objects, matrix


def _threshold_facts(points: OperatingPoints, scores: np.ndarray, value: float) -> ThresholdFacts:
    rates, recommended = points.overall(value), points.recommended()
    best = None if recommended is None else points.overall(recommended)
    return ThresholdFacts(
        value=value,
        passing=int((scores >= np.float32(value)).sum()),
        recall=rates.recall,
        f1=rates.f1,
        lowest_recall=points.overall(LOWEST_SCORE).recall,
        recommended=recommended,
        recommended_recall=best.recall if best else 0.0,
        recommended_f1=best.f1 if best else 0.0,
    )


def parameter_facts(model: RetinaNet, pretrained: bool) -> ParameterFacts:
    """What trains in the model, and whether its backbone still has its initial values."""
    body = getattr(model.backbone, "body", model.backbone)
    norms = [m for m in body.modules() if isinstance(m, (nn.BatchNorm2d, FrozenBatchNorm2d))]
    return ParameterFacts(
        total=_count(model),
        trainable=_count(model, trainable=True),
        backbone=_count(body),
        backbone_trainable=_count(body, trainable=True),
        norms=len(norms),
        untrained=bool(norms)
        and (
            all(_is(m.running_mean, 0) and _is(m.running_var, 1) for m in norms)
            or all(_is(m.weight, 1) and _is(m.bias, 0) for m in norms)
        ),
        norms_frozen=bool(norms) and all(isinstance(m, FrozenBatchNorm2d) for m in norms),
        pretrained=pretrained,
    )


def _count(module: nn.Module, trainable: bool = False) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable)


def _is(values: torch.Tensor | None, number: float) -> bool:
    return values is not None and bool((values == number).all())


def anchor_facts(model: RetinaNet, dataset: Dataset) -> AnchorFit | None:
    """Of images spread evenly over the split; None where none has a box and a known size.

    The size is the one that training sees: ``data.checking.box_checks`` stored it.
    """
    labelled = [a for a in dataset.annotations if len(a.boxes)]
    count = min(len(labelled), ANCHOR_IMAGES)
    chosen = [labelled[i * len(labelled) // count] for i in range(count)]
    known = [(a.boxes, a.size) for a in chosen if a.size]
    return anchor_fit(model, *zip(*known, strict=True)) if known else None
