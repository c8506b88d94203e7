"""What is described where little or nothing was measured."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from torchvision.models.detection import RetinaNet

from data.dataset import Annotation
from evaluation.diagnosis.rank import diagnose
from tests.evaluation.diagnosis.planted import (
    facts_of,
    labelled,
    nothing_detected,
    results_of,
    splits_of,
    titles_of,
)


@pytest.mark.parametrize("images", [0, 3])
def test_without_objects_or_images_the_diagnosis_names_that_and_nothing_warns(
    model: RetinaNet, images: int
) -> None:
    no_box = np.zeros((0, 4), np.float32)
    empty = [Annotation(Path(f"{i}"), no_box, (), np.zeros(0, bool)) for i in range(images)]
    splits = splits_of(empty)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        facts = facts_of(model, splits, results_of(splits))
        findings = diagnose(facts)
    assert findings[0].title == "There are no objects in the validation images."
    assert facts.anchors is None and math.isnan(facts.recall_any)


def test_without_detections_nothing_warns(model: RetinaNet) -> None:
    splits = splits_of(labelled(20))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert titles_of(model, splits, nothing_detected(splits)) == ["It detects nothing at all."]


def test_few_objects_make_no_bold_claims(model: RetinaNet) -> None:
    splits = splits_of(labelled(2))
    for results in (results_of(splits, lambda k, i: k % 4 + 1), nothing_detected(splits)):
        titles = titles_of(model, splits, results)
        assert titles == ["Only 4 objects in validation: too few to tell."]
    assert "too few to tell" in titles_of(model, splits, results_of(splits))[0]
