"""The page of the report: self-contained, harmless and small."""

from __future__ import annotations

import json
import math
import re
import warnings

import numpy as np
import pytest
from PIL import Image

from evaluation.metrics.results import ImageResult
from evaluation.page import largest_confusions
from tests.evaluation.pages import BOX, metrics_of, outside, page_of, perfect
from tests.image_results import CLASSES, random_boxes, random_results, result

NASTY = ("<script>alert(1)</script>", "_hidden $\\frac{1}{2}$", "\x1b[31mred\x1b[0m & \u202e")


@pytest.mark.parametrize(
    "results",
    [[], [result()], [result(found=[BOX])], [result(true=[BOX], difficult=[True])]],
    ids=["no image", "no object", "only a detection", "only a difficult object"],
)
def test_nothing_to_measure_is_a_report_too(results: list[ImageResult]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = metrics_of(results)
        page = page_of(metrics)
        plain = json.dumps(metrics.as_plain(), allow_nan=False)
    assert math.isnan(metrics.coco.map) and "NaN" not in plain
    assert "n/a" in page and not re.search(r"\bnan\b", re.sub(r"base64,[^\"]*", "", page))
    assert outside(page) == []


def test_the_page_needs_nothing_from_outside_and_marks_the_flags_of_findings() -> None:
    page = page_of(metrics_of(random_results(1)))
    assert outside(page) == []
    assert "ace" in page and "Something." in page and page.count("data:image/png") == 4
    assert "It is &lt;b&gt;so&lt;/b&gt;." in page
    assert "Give <code>--epochs 80</code> (no <code>--image-size</code> helps), " in page
    assert "<code>--precision fp32</code>, or &lt;i&gt;this&lt;/i&gt;." in page


def test_the_test_above_sees_what_comes_from_outside() -> None:
    for tag in ('<img src="http://x/y.png">', "<script></script>", '<p onclick="x()"></p>'):
        assert outside(tag)


def test_names_from_a_data_set_are_text_and_nothing_else() -> None:
    page = page_of(metrics_of(random_results(1), NASTY))
    assert outside(page) == []
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "\x1b" not in page and "\u202e" not in page


def test_a_large_set_of_hard_images_gives_a_small_page() -> None:
    """5,000 images; those that are shown are large and of pure noise, which no JPEG compresses."""
    random = np.random.default_rng(0)
    results = []
    for number in range(5000):
        kind = number % 3  # missed, false positive, confused
        annotated, elsewhere = random_boxes(random, 1), random_boxes(random, 1)
        boxes = [(), elsewhere, annotated][kind]
        scores, labels = random.random(len(boxes)), [2] * len(boxes)
        objects = () if kind == 1 else annotated
        results.append(result(number, objects, boxes, scores, labels=labels))

    def noise(image_id: int) -> tuple[str, Image.Image]:
        pixels = np.random.default_rng(image_id).integers(0, 256, (500, 500, 3), dtype=np.uint8)
        return f"{image_id}.jpg", Image.fromarray(pixels)

    page = page_of(metrics_of(results, CLASSES[:2], 0.05), noise)
    assert page.count("data:image/jpeg") == 48
    assert 3_000_000 < len(page.encode()) < 5_000_000


def test_the_largest_confusions_come_first_with_their_share() -> None:
    results = [result(i, [BOX], [BOX], true_labels=[1], labels=[2]) for i in range(3)]
    results += [result(i, [BOX], [BOX], true_labels=[2], labels=[2]) for i in range(10, 15)]
    results += [result(9, [BOX], [BOX], true_labels=[1], labels=[3])]
    confusions = largest_confusions(metrics_of(results))
    assert confusions == [("ace", "king", 3, 0.75), ("ace", "queen", 1, 0.25)]


def test_a_report_names_the_threshold_in_use_and_the_best_one() -> None:
    metrics = metrics_of([*perfect(), result(99, [BOX], [BOX], [0.3])], threshold=0.6)
    page = page_of(metrics)
    assert metrics.recommended == 0.17
    assert page.count("0.60") >= 5 and "The highest F1 is at 0.17." in page
