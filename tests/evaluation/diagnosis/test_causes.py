"""Each proven cause is named where it was planted, and none where it was not."""

from __future__ import annotations

import dataclasses
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

SMALL = "smaller than every anchor"
SHUFFLED = "shuffled"
FROZEN = "frozen and has no pretrained weights"
NOTHING_PASSES = "No detection passes the score threshold"
EXCHANGED = "are exchanged"
ACCUSATIONS = (SMALL, SHUFFLED, FROZEN, NOTHING_PASSES, EXCHANGED)


def exchanged(label: int, index: int) -> int:
    return {1: 2, 2: 1}.get(label, label)


def assert_first(findings: list[Finding], accusation: str) -> None:
    titles = [f.title for f in findings]
    assert accusation in titles[0], titles
    assert not any(other in titles[0] for other in ACCUSATIONS if other != accusation), titles
    assert [f.severity for f in findings] == sorted((f.severity for f in findings), reverse=True)
    assert all(0 <= f.severity <= 1 for f in findings)


# The four causes that must be named, in parts as real as they come.


def test_objects_smaller_than_every_anchor_are_named(model: RetinaNet, tmp_path: Path) -> None:
    splits = splits_of(labelled(8, side=4, folder=tmp_path))
    findings = findings_of(model, splits, results_of_the_model(model, splits))
    assert_first(findings, SMALL)
    assert findings[0].severity == 1
    assert "16 training boxes" in findings[0].evidence
    assert "side of 4 pixels" in findings[0].evidence
    assert "--image-size 128" in findings[0].advice or "--anchor-scale 0." in findings[0].advice


def test_shuffled_labels_are_named(model: RetinaNet) -> None:
    splits = splits_of(labelled(40))
    findings = findings_of(model, splits, results_of(splits, shuffled))
    assert_first(findings, SHUFFLED)
    assert "On 80 objects detected" in findings[0].evidence
    assert 0.6 < findings[0].severity < 0.9


@pytest.mark.parametrize("which", ["frozen_from_a_file", "frozen_by_hand"])
def test_a_frozen_backbone_without_weights_is_named(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    frozen = request.getfixturevalue(which)
    splits = splits_of(labelled(8, folder=tmp_path))
    results = results_of_the_model(frozen, splits)
    facts = facts_of(frozen, splits, results, pretrained=which == "frozen_from_a_file")
    findings = diagnose(facts)
    assert_first(findings, FROZEN)
    assert f"0 of its {facts.parameters.backbone} parameters train" in findings[0].evidence
    assert "--backbone-weights" in findings[0].advice


def test_a_threshold_that_nothing_passes_is_named(model: RetinaNet) -> None:
    splits = splits_of(labelled(20))
    findings = findings_of(model, splits, results_of(splits, score=0.3))
    assert_first(findings, NOTHING_PASSES)
    assert "is 0.30 and the threshold in use 0.50" in findings[0].evidence
    assert float(findings[0].advice.removesuffix(".").split()[-1]) <= 0.3


def test_every_cause_alone_is_the_only_accusation(
    model: RetinaNet, frozen_by_hand: RetinaNet
) -> None:
    splits, small = splits_of(labelled(40)), splits_of(labelled(40, side=4))
    cases = {
        SMALL: titles_of(model, small, nothing_detected(small)),
        SHUFFLED: titles_of(model, splits, results_of(splits, shuffled)),
        FROZEN: titles_of(frozen_by_hand, splits, nothing_detected(splits)),
        NOTHING_PASSES: titles_of(model, splits, results_of(splits, score=0.2)),
        EXCHANGED: titles_of(model, splits, results_of(splits, exchanged)),
    }
    for planted, titles in cases.items():
        assert {a for a in ACCUSATIONS for title in titles if a in title} == {planted}


# What must not be mistaken for them.


def test_a_backbone_that_knows_nothing_names_at_random_without_shuffled_labels(
    frozen_by_hand: RetinaNet,
) -> None:
    splits = splits_of(labelled(40))
    (only,) = findings_of(frozen_by_hand, splits, results_of(splits, shuffled))
    assert_first([only], FROZEN)


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


def test_averaged_weights_are_accused_only_after_steps(model: RetinaNet) -> None:
    """An average has no gradients at all; only unchanged norms after steps prove something."""
    average = DetectorModule(model, NAMES).detector
    splits = splits_of(labelled(20))
    nothing = nothing_detected(splits)
    assert FROZEN not in titles_of(average, splits, nothing)[0]
    assert FROZEN in diagnose(facts_of(average, splits, nothing, training={"steps": 900}))[0].title


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


@pytest.mark.parametrize(
    ("predict", "title", "severity"),
    [
        (exchanged, "The names 'ace', 'king' are exchanged.", 0.5),
        (lambda k, i: k % 4 + 1, "The names 'ace', 'king', 'queen', 'jack' are exchanged.", 1),
        (lambda k, i: min(k, 3), "'jack' is called 'queen'.", 0.25),
        (lambda k, i: 2, "Nearly everything is called 'king': no better than chance.", 0.75),
        (
            lambda k, i: shuffled(k, i) if i % 2 else k,
            "It detects objects but with wrong names.",
            0.36,
        ),
    ],
    ids=["two exchanged", "a cycle", "one called another", "one name for all", "no pattern"],
)
def test_wrong_names_are_described_by_their_pattern(
    model: RetinaNet, predict: object, title: str, severity: float
) -> None:
    splits = splits_of(labelled(40))
    (only,) = findings_of(model, splits, results_of(splits, predict))  # type: ignore[arg-type]
    assert only.title == title
    assert only.severity == pytest.approx(severity, abs=0.05)


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


@pytest.mark.parametrize("classes", [1, 2, 4])
def test_a_healthy_detector_is_not_accused(model: RetinaNet, classes: int) -> None:
    def renamed(annotation: Annotation) -> Annotation:
        names = tuple(NAMES[NAMES.index(n) % classes] for n in annotation.names)
        return dataclasses.replace(annotation, names=names)

    splits = splits_of([renamed(a) for a in labelled(30)])
    (only,) = findings_of(model, splits, results_of(splits))
    assert only.title == "Nothing stands out."
    assert only.severity == 0
    assert "100 % of 60 objects" in only.evidence
