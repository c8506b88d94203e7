"""Circumstances of a training are named where the objects are lost, and only there."""

from __future__ import annotations

import dataclasses

import pytest
from torchvision.models.detection import RetinaNet

from evaluation.diagnosis.rank import diagnose
from tests.evaluation.diagnosis.planted import (
    facts_of,
    findings_of,
    labelled,
    nothing_detected,
    results_of,
    splits_of,
)


def test_a_rare_class_is_named(model: RetinaNet) -> None:
    both = labelled(40)
    without = [a for a in both if "jack" not in a.names]
    one = next(a for a in both if "jack" in a.names)
    splits = splits_of(without * 3 + [one], both)
    lost = [
        r.with_detections(r.detections.keep(r.detections.labels != 4)) for r in results_of(splits)
    ]
    first = findings_of(model, splits, lost)[0]
    assert first.title == "Some classes are rare in training." and "'jack' 1" in first.evidence


@pytest.mark.parametrize(
    ("training", "title"),
    [
        ({"steps": 40}, "It has hardly been trained yet."),
        ({"steps": 40, "planned_steps": 4000}, "It has hardly been trained yet."),
        ({"steps": 4000, "learning_rate": 0.5}, "The learning rate is very high."),
        ({"steps": 4000, "learning_rate": 1e-7}, "The learning rate is very low."),
        ({"steps": 4000, "loss": 40.0}, "The loss is very high: training diverges."),
        ({"steps": 4000, "loss": 0.0}, "The loss is zero: there is nothing to learn from."),
        ({"learning_rate": 1e-3, "loss": 0.4}, "It detects nothing at all."),
        ({}, "It detects nothing at all."),
    ],
)
def test_circumstances_of_the_training_are_named(
    model: RetinaNet, training: dict[str, float], title: str
) -> None:
    splits = splits_of(labelled(20))
    facts = facts_of(model, splits, nothing_detected(splits), training=training)
    trained = dataclasses.replace(facts.parameters, untrained=False)
    assert [f.title for f in diagnose(dataclasses.replace(facts, parameters=trained))] == [title]
    healthy = facts_of(model, splits, results_of(splits), training=training)
    assert "Nothing stands out" in diagnose(healthy)[0].title
