"""pycocotools' own numbers, and the comparison of ours with them."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math

import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval

from evaluation.metrics.coco import SUMMARY_ROWS, CocoEvaluation
from evaluation.metrics.pycocotools_reference import (
    choose_metrics,
    coco_input,
    greatest_difference,
    pycocotools_metrics,
    run_pycocotools,
)
from evaluation.metrics.results import ImageResult
from tests.image_results import CLASSES, random_results, result, with_truth
from utils.errors import UserError

BOX = [10, 10, 60, 60]


def test_the_input_is_what_cocos_files_hold() -> None:
    image = result(7, [BOX, BOX], [[0, 0, 9.5, 8]], [0.25], true_labels=[2, 1], labels=[3])
    image = with_truth(image, difficult=np.array([False, True]), crowd=np.array([False, True]))
    truth, detections = coco_input([image], CLASSES)
    assert json.loads(json.dumps(truth)) == {
        "images": [{"id": 7}],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)],
        "annotations": [
            {"id": i + 1, "image_id": 7, "category_id": 2 - i, "bbox": [10, 10, 50, 50]}
            | {"area": (2500, -1)[i], "iscrowd": i}
            for i in (0, 1)
        ],
    }
    assert json.loads(json.dumps(detections)) == [
        {"image_id": 7, "category_id": 3, "bbox": [0, 0, 9.5, 8], "score": 0.25}
    ]


@pytest.mark.parametrize("seed", range(4))
def test_each_class_has_the_numbers_that_it_has_alone(seed: int) -> None:
    results = random_results(seed)
    metrics = pycocotools_metrics(results, CLASSES)
    whole = run_pycocotools(*coco_input(results, CLASSES))
    assert 0.1 < metrics.map < 0.95
    assert metrics.summary == tuple(whole.stats)
    for k, name in enumerate(CLASSES, start=1):
        with contextlib.redirect_stdout(io.StringIO()):
            alone = COCOeval(whole.cocoGt, whole.cocoDt, "bbox")
            alone.params.catIds = [k]
            alone.evaluate()
            alone.accumulate()
            alone.summarize()
        np.testing.assert_allclose(metrics.class_ap[name], alone.stats[:3], rtol=0, atol=1e-12)
        shown = sum(int((r.ground_truth.labels == k).sum()) for r in results)
        assert metrics.objects[name] == shown


def test_the_summary_has_the_rows_that_pycocotools_prints() -> None:
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        run_pycocotools(*coco_input(random_results(0), CLASSES)).summarize()
    lines = text.getvalue().strip().splitlines()
    for (kind, iou, area, detections), line in zip(SUMMARY_ROWS, lines, strict=True):
        assert f"({kind})" in line and f"IoU={iou} " in line
        assert f"area={area:>6s}" in line and f"maxDets={detections:>3d} " in line


@pytest.mark.parametrize(
    "results",
    [[], [result(3, [BOX]), result(1, [BOX], [BOX]), result(3, [BOX], [BOX])], random_results(1)],
    ids=["no image", "an image twice", "many"],
)
def test_our_numbers_are_verified_in_one_line(
    results: list[ImageResult], capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = CocoEvaluation(results, (*CLASSES, "never shown"))
    metrics = choose_metrics(evaluation)
    assert greatest_difference(evaluation.metrics, metrics) < 1e-12
    assert metrics.objects == evaluation.objects
    np.testing.assert_allclose(metrics.summary, evaluation.metrics.summary, rtol=0, atol=1e-12)
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize(("wrong", "difference"), [(0.5, 0.5), (math.nan, math.inf)])
@pytest.mark.parametrize("field", ["summary", "class_ap"])
def test_every_number_is_compared(field: str, wrong: float, difference: float) -> None:
    evaluation = CocoEvaluation([result(true=[BOX], found=[BOX])], ("ace",))
    right = evaluation.metrics
    values = {"summary": (wrong, *right.summary[1:]), "class_ap": {"ace": (1.0, 1.0, wrong)}}
    evaluation.metrics = dataclasses.replace(right, **{field: values[field]})
    assert greatest_difference(evaluation.metrics, right) == pytest.approx(difference)
    with pytest.raises(UserError, match="pycocotools: its metrics differ from this program's by"):
        choose_metrics(evaluation)
