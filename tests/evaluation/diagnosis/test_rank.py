"""Findings beside the proven causes: circumstances, symptoms, and nothing to measure."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from torchvision.models.detection import RetinaNet

from data.dataset import Annotation
from evaluation.console_report import finding_lines
from evaluation.diagnosis.rank import diagnose
from tests.evaluation.diagnosis.planted import (
    facts_of,
    findings_of,
    labelled,
    nothing_detected,
    results_of,
    splits_of,
    titles_of,
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
    model: RetinaNet, training: dict[str, float], title: str, recwarn: pytest.WarningsRecorder
) -> None:
    splits = splits_of(labelled(20))
    facts = facts_of(model, splits, nothing_detected(splits), training=training)
    trained = dataclasses.replace(facts.parameters, untrained=False)
    assert [f.title for f in diagnose(dataclasses.replace(facts, parameters=trained))] == [title]
    healthy = facts_of(model, splits, results_of(splits), training=training)
    assert "Nothing stands out" in diagnose(healthy)[0].title
    assert not recwarn.list


@pytest.mark.parametrize("images", [0, 3])
def test_without_objects_or_images_the_diagnosis_names_that_and_nothing_warns(
    model: RetinaNet, images: int, recwarn: pytest.WarningsRecorder
) -> None:
    no_box = np.zeros((0, 4), np.float32)
    empty = [Annotation(Path(f"{i}"), no_box, (), np.zeros(0, bool)) for i in range(images)]
    facts = facts_of(model, splits_of(empty), results_of(splits_of(empty)))
    assert diagnose(facts)[0].title == "There are no objects in the validation images."
    assert facts.anchors is None and math.isnan(facts.recall_any)
    assert not recwarn.list


def test_few_objects_make_no_bold_claims(model: RetinaNet) -> None:
    splits = splits_of(labelled(2))
    for results in (results_of(splits, lambda k, i: k % 4 + 1), nothing_detected(splits)):
        titles = titles_of(model, splits, results)
        assert titles == ["Only 4 objects in validation: too few to tell."]
    assert "too few to tell" in titles_of(model, splits, results_of(splits))[0]


def test_long_names_are_shortened_and_lines_are_single(model: RetinaNet) -> None:
    long = "x" * 300
    facts = dataclasses.replace(
        facts_of(model, splits_of(labelled(40)), []),
        objects={long: 30, "king": 30},
        training_objects={"king": 30},
        recall_any=1.0,
        names=((0, 30), (0, 30)),
    )
    lines = finding_lines(diagnose(facts))
    assert all(long not in line and "\n" not in line for line in lines)
    assert [line.split(".")[0] for line in lines] == [str(i + 1) for i in range(len(lines))]
