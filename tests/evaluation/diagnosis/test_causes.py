"""Each proven cause is named where it was planted, and none where it was not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models.detection import RetinaNet

from data.dataset import Annotation
from evaluation.diagnosis.finding import Finding
from evaluation.diagnosis.rank import diagnose
from evaluation.metrics.results import Detections, ImageResult
from model.lightning_trainer import DetectorModule
from tests.evaluation.diagnosis.planted import (
    NAMES,
    build,
    correct,
    facts_of,
    findings_of,
    labelled,
    nothing_detected,
    results_of,
    results_of_the_model,
    shuffled,
    splits_of,
    titles_of,
)

SMALL, FROZEN = "smaller than every anchor", "frozen and has no pretrained weights"
NOTHING_PASSES = "No detection passes the score threshold"
THE_NAMES = "The names 'ace', 'king'"
ACCUSATIONS = (SMALL, FROZEN, NOTHING_PASSES, "shuffled", "are exchanged")


def assert_accused(findings: list[Finding], accusation: str) -> None:
    titles = [f.title for f in findings]
    assert accusation in titles[0], titles
    assert {a for a in ACCUSATIONS for title in titles if a in title} == {accusation}
    severities = [f.severity for f in findings]
    assert severities == sorted(severities, reverse=True) and min(severities) >= 0


# The causes that must be named, in parts as real as they come.


def test_objects_smaller_than_every_anchor_are_named(model: RetinaNet, tmp_path: Path) -> None:
    splits = splits_of(labelled(8, side=4, folder=tmp_path))
    findings = findings_of(model, splits, results_of_the_model(model, splits))
    assert_accused(findings, SMALL)
    assert findings[0].severity == 1
    assert "16 training boxes" in findings[0].evidence
    assert "side of 4 pixels" in findings[0].evidence
    assert "--image-size 128" in findings[0].advice or "--anchor-scale 0." in findings[0].advice


@pytest.mark.parametrize("which", ["frozen_from_a_file", "frozen_by_hand"])
def test_a_frozen_backbone_without_weights_is_named(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    frozen = request.getfixturevalue(which)
    splits = splits_of(labelled(8, folder=tmp_path))
    results = results_of_the_model(frozen, splits)
    facts = facts_of(frozen, splits, results, pretrained=which == "frozen_from_a_file")
    findings = diagnose(facts)
    assert_accused(findings, FROZEN)
    assert f"0 of its {facts.parameters.backbone} parameters train" in findings[0].evidence
    assert "--backbone-weights" in findings[0].advice


@pytest.mark.parametrize(
    ("predict", "score", "title", "severity", "evidence"),
    [
        (correct, 0.9, "Nothing stands out.", 0, "100 % of 80 objects"),
        (correct, 0.3, NOTHING_PASSES, 1, "0.30 and the threshold in use 0.50"),
        (shuffled, 0.9, "The names are hardly better than chance", 0.75, "On 80 objects"),
        (lambda k, i: {1: 2, 2: 1}.get(k, k), 0.9, f"{THE_NAMES} are", 0.5, "20 of 20 'ace'"),
        (lambda k, i: k % 4 + 1, 0.9, f"{THE_NAMES}, 'queen', 'jack' are", 1, "20 of 20 'jack'"),
        (lambda k, i: min(k, 3), 0.9, "'jack' is called 'queen'.", 0.25, "20 of 20 'jack'"),
        (lambda k, i: 2, 0.9, "Nearly everything is called 'king'", 0.75, "20 times"),
        (lambda k, i: shuffled(k, i) if i % 2 else k, 0.9, "It detects", 0.36, "Of 80 objects"),
    ],
)
def test_what_was_planted_is_the_only_finding(
    model: RetinaNet,
    predict: Callable[[int, int], int],
    score: float,
    title: str,
    severity: float,
    evidence: str,
) -> None:
    splits = splits_of(labelled(40))
    (only,) = findings_of(model, splits, results_of(splits, predict, score=score))
    assert only.title.startswith(title) and evidence in only.evidence
    assert only.severity == pytest.approx(severity, abs=0.05)


# What must not be mistaken for them.


@pytest.mark.parametrize("classes", [1, 2])
def test_a_healthy_detector_of_few_classes_is_not_accused(model: RetinaNet, classes: int) -> None:
    def renamed(annotation: Annotation) -> Annotation:
        names = tuple(NAMES[NAMES.index(n) % classes] for n in annotation.names)
        return dataclasses.replace(annotation, names=names)

    splits = splits_of([renamed(a) for a in labelled(30)])
    assert titles_of(model, splits, results_of(splits)) == ["Nothing stands out."]


def test_a_frozen_backbone_shuffles_names_without_shuffled_labels(
    frozen_by_hand: RetinaNet,
) -> None:
    splits = splits_of(labelled(40))
    (only,) = findings_of(frozen_by_hand, splits, results_of(splits, shuffled))
    assert_accused([only], FROZEN)


def test_a_frozen_backbone_that_has_learned_is_not_accused(frozen_from_a_file: RetinaNet) -> None:
    state = {k: v.clone() for k, v in frozen_from_a_file.state_dict().items()}
    try:
        with torch.no_grad():
            for name, value in frozen_from_a_file.state_dict().items():
                if ("running" in name or "_bn" in name) and value.is_floating_point():
                    value.add_(0.1)
        splits = splits_of(labelled(20))
        facts = facts_of(frozen_from_a_file, splits, nothing_detected(splits), pretrained=True)
        assert not facts.parameters.untrained and facts.parameters.backbone_trainable == 0
        assert "nothing at all" in diagnose(facts)[0].title
    finally:
        frozen_from_a_file.load_state_dict(state)


@pytest.mark.parametrize(("training", "accused"), [({}, False), ({"steps": 900.0}, True)])
def test_averaged_weights_are_accused_only_after_steps(
    model: RetinaNet, training: dict[str, float], accused: bool
) -> None:
    """An average has no gradients at all; only unchanged norms after steps prove something."""
    average, splits = DetectorModule(model, NAMES).detector, splits_of(labelled(20))
    facts = facts_of(average, splits, nothing_detected(splits), training=training)
    assert (FROZEN in diagnose(facts)[0].title) == accused


def test_objects_larger_than_every_anchor_are_named() -> None:
    splits = splits_of(labelled(20, side=28))
    first = findings_of(build(anchor_scale=0.01), splits, nothing_detected(splits))[0]
    assert first.title == "Objects are larger than every anchor."
    assert "--anchor-scale 1 --image-size 128: then 0 % of the boxes" in first.advice


def test_anchors_that_do_not_fit_are_no_cause_where_the_objects_are_detected(
    model: RetinaNet,
) -> None:
    splits = splits_of(labelled(20, side=4))
    assert "Nothing stands out" in titles_of(model, splits, results_of(splits))[0]


def test_classes_missing_from_training_are_named(model: RetinaNet) -> None:
    both = labelled(40)
    splits = splits_of([a for a in both if "jack" not in a.names], both)
    results = results_of(splits, lambda k, i: shuffled(k, i) if k == 4 else k)
    title = titles_of(model, splits, results)[0]
    assert title == "Classes are missing from the training images."


def with_false_positives(results: list[ImageResult], score: float) -> list[ImageResult]:
    corner = np.tile(np.array([[0, 40, 7, 47]], np.float32), (4, 1))
    return [
        r.with_detections(
            Detections(
                np.concatenate([r.detections.boxes, corner]),
                np.concatenate([r.detections.scores, np.full(4, score, np.float32)]),
                np.concatenate([r.detections.labels, np.ones(4, np.int64)]),
            )
        )
        for r in results
    ]


@pytest.mark.parametrize(
    ("threshold", "title"), [(0.95, "The score threshold is too high."), (0.5, "Nothing")]
)
def test_a_threshold_too_high_is_named(model: RetinaNet, threshold: float, title: str) -> None:
    splits = splits_of(labelled(20))
    results = results_of(splits)
    best = dataclasses.replace(results[0].detections, scores=np.array([0.97, 0.97], np.float32))
    results[0] = results[0].with_detections(best)
    assert titles_of(model, splits, results, threshold)[0].startswith(title)


@pytest.mark.parametrize(
    ("score", "false", "threshold", "title"),
    [
        (0.9, 0.3, 0.1, "The score threshold is too low."),
        (0.6, 0.9, 0.5, "It detects the objects, and much else."),
    ],
)
def test_false_positives_are_named_by_what_would_remove_them(
    model: RetinaNet, score: float, false: float, threshold: float, title: str
) -> None:
    splits = splits_of(labelled(20))
    results = with_false_positives(results_of(splits, score=score), false)
    assert titles_of(model, splits, results, threshold)[0] == title
