"""Why the mAP is low: gathers the facts from model, data and results, and says the diagnosis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torchvision.models.detection import RetinaNet
from torchvision.ops import FrozenBatchNorm2d

from data.dataset import Annotation, Dataset, DataSplits
from data.image_files.read import probe
from evaluation.diagnosis.anchor_coverage import AnchorFit
from evaluation.diagnosis.anchor_fit import anchor_fit
from evaluation.diagnosis.facts import Facts, ParameterFacts, ThresholdFacts
from evaluation.diagnosis.finding import Finding
from evaluation.metrics.box_ops import iou
from evaluation.metrics.coco import CocoEvaluation, unique_images
from evaluation.metrics.coco_matching import MAX_DETECTIONS
from evaluation.metrics.operating_point import OperatingPoints
from evaluation.metrics.outcomes import SAME_PLACE
from evaluation.metrics.results import ImageResult

LEAST_SCORE = 0.05
ANCHOR_IMAGES = 500


def diagnosis_lines(findings: Sequence[Finding]) -> list[str]:
    """One line each, numbered. Names of classes in them are untrusted text."""
    return [
        f"{place}. {finding.title} {finding.evidence} {finding.advice}"
        for place, finding in enumerate(findings, start=1)
    ]


def examine(
    model: RetinaNet,
    splits: DataSplits,
    results: Sequence[ImageResult],
    threshold: float,
    *,
    pretrained: bool,
    training: Mapping[str, float],
    evaluation: CocoEvaluation | None = None,
) -> Facts:
    """Measure what a diagnosis needs. Nothing is changed and no picture is decoded.

    model: the one that trains; the averaged weights train nowhere and would hide what is frozen.
    results: of the validation images. threshold: the score from which detections are shown.
    pretrained: whether the backbone was built for weights that had learned something. training: see
    ``Facts.training``; may be empty. evaluation: of the same results, where it was made already.
    """
    class_names = splits.class_names
    results = [r.with_detections(r.detections.above(LEAST_SCORE)) for r in unique_images(results)]
    evaluation = evaluation or CocoEvaluation(results, class_names)
    scores = np.concatenate([np.zeros(0, np.float32), *(r.detections.scores for r in results)])
    recall_any, recall_named, names = _places(results, len(class_names))
    return Facts(
        images=len(results),
        objects=evaluation.objects,
        training_objects=dict(splits.train.label_counts()),
        recall_any=recall_any,
        recall_named=recall_named,
        names=names,
        detections=len(scores),
        highest_score=float(scores.max()) if len(scores) else math.nan,
        threshold=_threshold_facts(OperatingPoints(evaluation), scores, threshold),
        anchors=_anchor_facts(model, splits.train),
        parameters=parameter_facts(model, pretrained),
        training=dict(training),
    )


def _places(
    results: Sequence[ImageResult], num_classes: int
) -> tuple[float, float, tuple[tuple[int, ...], ...]]:
    """Recall whatever the name, recall under the name, and the K x K counts of the names given.

    For the names a detection belongs to the object that it overlaps most, so that the sure
    detection of an object does not name its neighbour too.
    """
    names = np.zeros((num_classes, num_classes), dtype=np.int64)
    objects = found = found_named = 0
    for image in results:
        truth, detections = image.ground_truth, image.detections
        counted = np.flatnonzero(~truth.difficult)
        objects += len(counted)
        by_score = np.argsort(-detections.scores, kind="stable")
        best = detections.keep(by_score[:MAX_DETECTIONS])
        if not len(counted) or not len(best):
            continue
        overlap = iou(best.boxes, truth.boxes)
        said = best.labels
        there = overlap >= SAME_PLACE
        own = there & (overlap.argmax(axis=1)[:, None] == np.arange(len(truth)))
        for k in counted:
            label = int(truth.labels[k])
            found += bool(there[:, k].any())
            found_named += bool((there[:, k] & (said == label)).any())
            if own[:, k].any():
                # Detections come surest first.
                names[label - 1, said[own[:, k].argmax()] - 1] += 1
    matrix = tuple(tuple(row) for row in names.tolist())
    if not objects:
        return math.nan, math.nan, matrix
    return found / objects, found_named / objects, matrix


def _threshold_facts(points: OperatingPoints, scores: np.ndarray, value: float) -> ThresholdFacts:
    rates, recommended = points.overall(value), points.recommended()
    best = None if recommended is None else points.overall(recommended)
    return ThresholdFacts(
        value=value,
        passing=int((scores >= np.float32(value)).sum()),
        recall=rates.recall,
        f1=rates.f1,
        lowest_recall=points.overall(LEAST_SCORE).recall,
        recommended=recommended,
        recommended_recall=best.recall if best else 0.0,
        recommended_f1=best.f1 if best else 0.0,
    )


def parameter_facts(model: RetinaNet, pretrained: bool) -> ParameterFacts:
    """What trains in the model, and whether its backbone is as it was made."""
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


def _anchor_facts(model: RetinaNet, dataset: Dataset) -> AnchorFit | None:
    """Of images spread evenly over the split; None where none has a box and a known size."""
    labelled = [a for a in dataset.annotations if len(a.boxes)]
    count = min(len(labelled), ANCHOR_IMAGES)
    chosen = [labelled[i * len(labelled) // count] for i in range(count)]
    sized = [(a, size) for a in chosen if (size := _image_size(a)) is not None]
    if not sized:
        return None
    return anchor_fit(model, [a.boxes for a, _ in sized], [size for _, size in sized])


def _image_size(annotation: Annotation) -> tuple[int, int] | None:
    """(width, height) of the picture that training sees; None where nothing says it.

    ``data.checking.box_checks`` stored it when the data set was read.
    """
    return annotation.size or probe(annotation.image_path).size
