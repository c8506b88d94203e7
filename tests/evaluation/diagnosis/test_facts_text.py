"""The facts behind a diagnosis, in words."""

from __future__ import annotations

import dataclasses
import math

from evaluation.diagnosis.anchor_fit import AnchorFit, LevelFit
from evaluation.diagnosis.facts import Facts, ParameterFacts, ThresholdFacts
from evaluation.diagnosis.facts_text import facts_as_text

FIT = AnchorFit(
    boxes=20,
    without_anchor=0.25,
    too_small=0.2,
    too_large=0.0,
    odd_shape=0.05,
    median_side=31.4,
    smallest_side=32,
    largest_side=645,
    image_size=256,
    anchor_scale=0.5,
    levels=(LevelFit(8, (32, 40, 51), 0.4, 0.6), LevelFit(16, (64, 81, 102), 0.85, 0.15)),
)
FACTS = Facts(
    images=10,
    objects={"ace": 3, "king": 1},
    training_objects={"ace": 12, "king": 8},
    recall_any=0.75,
    recall_named=0.5,
    names=((2, 1), (0, 0)),
    detections=40,
    highest_score=0.31,
    threshold=ThresholdFacts(value=0.5, passing=0, recall=0.0, f1=0.0, lowest_recall=0.5),
    anchors=FIT,
    parameters=ParameterFacts(14_200_000, 10_200_000, 4_000_000, 0, 49, True, False, False),
    training={"learning_rate": 1e-3, "steps": 30, "planned_steps": 300},
)


def test_every_fact_has_its_figure() -> None:
    texts = dict(facts_as_text(FACTS))
    assert "25 % of 20 training boxes" in texts["anchors"] and "20 % smaller" in texts["anchors"]
    assert "larger" not in texts["anchors"] and "31 px" in texts["anchors"]
    assert "32, 40, 51 px: 40 % of the boxes have none" in texts["level 1, stride 8"]
    assert "85 %" in texts["level 2, stride 16"] and "15 %" in texts["level 2, stride 16"]
    assert texts["recall"].startswith("0.750 of the objects by detections of any class, 0.500 by")
    assert texts["detections"].startswith("40 from score 0.05 on, 0 from the threshold in use, 0.5")
    assert texts["training labels"] == "20 objects: ace 12, king 8"
    assert texts["validation labels"] == "4 objects: ace 3, king 1"
    assert texts["training"] == "learning rate up to 0.001, 30 steps done, 300 planned"
    assert texts["parameters"].startswith("10.20 of 14.20 M train")
    assert "0.00 of 4.00 M" in texts["parameters"]


def test_what_is_unknown_is_named_so() -> None:
    facts = dataclasses.replace(
        FACTS, anchors=None, recall_any=math.nan, highest_score=math.nan, training={}
    )
    texts = dict(facts_as_text(facts))
    assert texts["anchors"] == "no training box to measure"
    assert "n/a" in texts["recall"] and "n/a" in texts["detections"]
    assert texts["training"] == "unknown: the checkpoint does not contain it"
    assert not any("level" in label for label in texts)
