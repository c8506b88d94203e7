"""The report: its numbers, figures, galleries and page."""

from __future__ import annotations

import io
import json
import math
import re
import warnings
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evaluation import figures
from evaluation.diagnosis.finding import Finding
from evaluation.galleries import IMAGES_EACH, RIGHT, WRONG, Gallery, galleries
from evaluation.metrics.coco import CocoEvaluation
from evaluation.metrics.results import ImageResult
from evaluation.page import Contents, largest_confusions, render
from evaluation.summary import Evaluation, evaluate
from tests.image_results import (
    CLASSES,
    random_boxes,
    random_results,
    result,
    with_truth,
    without_detections,
)

BOX, ELSEWHERE = [10, 10, 60, 60], [100, 100, 160, 160]
NASTY = ("<script>alert(1)</script>", "_hidden $\\frac{1}{2}$", "\x1b[31mred\x1b[0m & \u202e")
FINDING = Finding(
    0.3,
    "Something.",
    "It is <b>so</b>.",
    "Give --epochs 80 (no --image-size helps), --precision fp32, or <i>this</i>.",
)


def picture(image_id: int) -> tuple[str, Image.Image]:
    noise = np.random.default_rng(image_id).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    return f"{image_id}.jpg", Image.fromarray(noise).resize((350, 280))


def page_of(
    evaluation: Evaluation, names: tuple[str, ...] = CLASSES, pictures: Any = picture
) -> str:
    shown = galleries(evaluation.outcomes, names, pictures)
    pngs = {
        name: getattr(figures, name)(evaluation)
        for name in ("precision_recall", "thresholds", "confusion", "sizes")
    }
    about = [("checkpoint", "runs/x/best.pth")]
    facts = [("recall", "<0.5")]
    return render(Contents("detector", about, evaluation, pngs, shown, [FINDING], facts))


def perfect(names: int = 3) -> list[ImageResult]:
    rows = [BOX, ELSEWHERE]
    return [
        result(i, rows, rows, true_labels=[1 + i % names] * 2, labels=[1 + i % names] * 2)
        for i in range(2 * names)
    ]


class Outside(HTMLParser):
    """Collects everything that a browser would fetch, run or follow away from the page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("img", "meta", "br", "link", "input"):
            self.open.append(tag)
        if tag in ("script", "link", "iframe", "object", "embed", "base"):
            self.found.append(tag)
        for name, value in attrs:
            inside = (value or "").startswith(("data:image/", "#"))
            if (name in ("src", "href", "srcset", "action") and not inside) or name[:2] == "on":
                self.found.append(f"{tag} {name}={value}")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}>"


def outside(page: str) -> list[str]:
    parser = Outside()
    parser.feed(page)
    parser.close()
    assert not parser.open
    return parser.found + re.findall(r"url\(|@import", page)


def test_a_perfect_detector_scores_one_everywhere() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measured = evaluate(perfect(), CLASSES)
    plain = measured.as_plain()
    assert plain["coco"]["AP IoU=0.50:0.95 area=all maxDets=100"] == 1
    assert plain["voc"] == {"AP50_2007": 1, "AP50_2010": 1}
    assert plain["mAP_of_detections_from_0.5"] == 1
    assert (plain["mAP_interval"]["low"], plain["mAP_interval"]["high"]) == (1, 1)
    for rates in (plain["at_threshold"], *plain["classes"].values()):
        assert (rates["precision"], rates["recall"], rates["F1"]) == (1, 1, 1)
    assert np.diag(measured.confusion).tolist() == [4, 4, 4, 0]
    assert measured.confusion.sum() == 12


def test_an_empty_detector_scores_zero_everywhere() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measured = evaluate(without_detections(perfect()), CLASSES)
    plain = measured.as_plain()
    assert plain["coco"]["AP IoU=0.50:0.95 area=all maxDets=100"] == 0
    assert plain["voc"] == {"AP50_2007": 0, "AP50_2010": 0}
    assert plain["mAP_of_detections_from_0.5"] == 0
    assert (plain["mAP_interval"]["low"], plain["mAP_interval"]["high"]) == (0, 0)
    for rates in (plain["at_threshold"], *plain["classes"].values()):
        assert (rates["precision"], rates["recall"], rates["F1"]) == (0, 0, 0)
    assert plain["recommended_score_threshold"] is None


@pytest.mark.parametrize(
    "results",
    [[], [result()], [result(found=[BOX])], [result(true=[BOX], difficult=[True])]],
    ids=["no image", "no object", "only a detection", "only a difficult object"],
)
def test_nothing_to_measure_is_a_report_too(results: list[ImageResult]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measured = evaluate(results, CLASSES)
        page = page_of(measured)
        plain = json.dumps(measured.as_plain(), allow_nan=False)
    assert math.isnan(measured.metrics.map) and "NaN" not in plain
    assert "n/a" in page and not re.search(r"\bnan\b", re.sub(r"base64,[^\"]*", "", page))
    assert outside(page) == []


def test_the_original_figure_leaves_out_detections_under_one_half() -> None:
    results = random_results(1)
    measured = evaluate(results, CLASSES)
    sure = [r.with_detections(r.detections.above(0.5)) for r in results]
    assert measured.original == CocoEvaluation(sure, CLASSES).metrics
    assert measured.original.map < measured.metrics.map


def test_an_asked_threshold_takes_the_place_of_the_recommended_one() -> None:
    results = random_results(1)
    asked, free = evaluate(results, CLASSES, 0.9), evaluate(results, CLASSES)
    assert asked.threshold == 0.9 and free.threshold == free.recommended == asked.recommended
    assert asked.confusion[:, :-1].sum() < free.confusion[:, :-1].sum()


def test_the_page_needs_nothing_from_outside() -> None:
    page = page_of(evaluate(random_results(1), CLASSES))
    assert outside(page) == []
    assert "ace" in page and "Something." in page and page.count("data:image/png") == 4


def test_findings_are_text_whose_flags_are_marked() -> None:
    page = page_of(evaluate(perfect(), CLASSES))
    assert "It is &lt;b&gt;so&lt;/b&gt;." in page
    assert "Give <code>--epochs 80</code> (no <code>--image-size</code> helps), " in page
    assert "<code>--precision fp32</code>, or &lt;i&gt;this&lt;/i&gt;." in page


def test_the_test_above_sees_what_comes_from_outside() -> None:
    for tag in ('<img src="http://x/y.png">', "<script></script>", '<p onclick="x()"></p>'):
        assert outside(tag)


def test_names_from_a_data_set_are_text_and_nothing_else() -> None:
    page = page_of(evaluate(random_results(1), NASTY), NASTY)
    assert outside(page) == []
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "\x1b" not in page and "\u202e" not in page


def test_a_large_set_of_hard_pictures_gives_a_small_page() -> None:
    """5,000 images; those that are shown are large and of pure noise, which no JPEG compresses."""
    random = np.random.default_rng(0)
    results = []
    for number in range(5000):
        kind = number % 3
        true, found = random_boxes(random, 1), random_boxes(random, 1)
        results.append(
            result(
                number,
                true if kind != 1 else (),
                (found if kind == 1 else true) if kind else (),
                random.random(1) if kind else (),
                labels=[2] if kind else (),
            )
        )

    def noise(image_id: int) -> tuple[str, Image.Image]:
        pixels = np.random.default_rng(image_id).integers(0, 256, (500, 500, 3), dtype=np.uint8)
        return f"{image_id}.jpg", Image.fromarray(pixels)

    measured = evaluate(results, CLASSES[:2], 0.05)
    shown = galleries(measured.outcomes, CLASSES[:2], noise)
    assert [len(gallery.exhibits) for gallery in shown] == [IMAGES_EACH] * 3
    page = page_of(measured, CLASSES[:2], noise)
    assert 3_000_000 < len(page.encode()) < 5_000_000


def shown(gallery: Gallery) -> list[str]:
    return [exhibit.file for exhibit in gallery.exhibits]


def test_the_galleries_show_the_worst_images_first() -> None:
    results = [
        result(1, [BOX], [BOX]),
        result(2, [BOX], []),
        result(3, [BOX, ELSEWHERE], []),
        result(4, [], [BOX], scores=[0.6]),
        result(5, [], [BOX], scores=[0.9]),
        result(6, [BOX], [BOX], labels=[2]),
    ]
    missed, false, confused = galleries(evaluate(results, CLASSES, 0.5).outcomes, CLASSES, picture)
    assert shown(missed) == ["3.jpg", "2.jpg"] and missed.images == 2
    assert shown(false) == ["5.jpg", "4.jpg"]
    assert shown(confused) == ["6.jpg"]
    assert missed.exhibits[0].caption == "2 objects missed: ace, ace"
    assert false.exhibits[0].caption == "1 false detection: ace 0.90"
    assert confused.exhibits[0].caption == "1 object misnamed: ace called king"


def test_a_gallery_shows_ground_truth_and_prediction_each_with_its_boxes() -> None:
    images = galleries(evaluate([result(2, [BOX], [])], CLASSES).outcomes, CLASSES, picture)
    exhibit = images[0].exhibits[0]
    truth, prediction = (
        np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")).astype(int)
        for jpeg in (exhibit.truth, exhibit.prediction)
    )
    assert truth.shape == prediction.shape == (280, 350, 3)
    change = np.abs(truth - prediction).max(axis=2) > 60
    assert change[10:60, 8:13].mean() > 0.3, "the left edge of the missed object"
    assert not change[:, 200:].any()


def test_the_colour_of_a_box_says_what_became_of_it() -> None:
    """Missed and found, of one class, whose own colour is neither."""
    image = result(1, [BOX, ELSEWHERE], [ELSEWHERE])
    grey = Image.new("RGB", (350, 280), "#808080")
    judged = evaluate([image], CLASSES).outcomes
    missed = galleries(judged, CLASSES, lambda _: ("a.jpg", grey))[0].exhibits[0]
    truth, prediction = (
        np.asarray(Image.open(io.BytesIO(jpeg))).astype(int)
        for jpeg in (missed.truth, missed.prediction)
    )
    left_edges = [(truth, BOX, WRONG), (truth, ELSEWHERE, RIGHT), (prediction, ELSEWHERE, RIGHT)]
    for pixels, (x, y, _, _), colour in left_edges:
        expected = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        shown = pixels[y + 20 : y + 40, x].mean(axis=0)
        np.testing.assert_allclose(shown, expected, atol=40)


def test_what_a_gallery_is_about_is_drawn_over_the_rest() -> None:
    """A false detection, less sure than a right one in nearly the same place."""
    near = [10, 10, 61, 61]
    image = result(1, [BOX], [BOX, near], [0.9, 0.6])
    grey = Image.new("RGB", (350, 280), "#808080")
    judged = evaluate([image], CLASSES, 0.5).outcomes
    (exhibit,) = galleries(judged, CLASSES, lambda _: ("a.jpg", grey))[1].exhibits
    pixels = np.asarray(Image.open(io.BytesIO(exhibit.prediction))).astype(int)
    expected = [int(WRONG[i : i + 2], 16) for i in (1, 3, 5)]
    np.testing.assert_allclose(pixels[30:50, 10].mean(axis=0), expected, atol=40)


def test_a_gallery_has_a_bounded_number_of_images() -> None:
    results = [result(i, [BOX], []) for i in range(3 * IMAGES_EACH)]
    missed = galleries(evaluate(results, CLASSES).outcomes, CLASSES, picture)[0]
    assert len(missed.exhibits) == IMAGES_EACH and missed.images == 3 * IMAGES_EACH


def test_the_size_histogram_counts_every_object_once_and_finds_what_was_found() -> None:
    results = random_results(1)
    results[0] = with_truth(results[0], difficult=results[0].ground_truth.labels > 0)
    measured = evaluate(results, CLASSES)
    edges, objects, found = figures.recall_by_size(measured)
    assert objects.sum() == sum(measured.coco.objects.values())
    assert found.sum() == measured.overall.true_positives and (found <= objects).all()
    boxes = np.concatenate([r.ground_truth.boxes for r in results[1:]])
    sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    np.testing.assert_array_equal(objects, np.histogram(sides.astype(np.float64), edges)[0])


def test_the_largest_confusions_come_first_with_their_share() -> None:
    results = [result(i, [BOX], [BOX], true_labels=[1], labels=[2]) for i in range(3)]
    results += [result(i, [BOX], [BOX], true_labels=[2], labels=[2]) for i in range(10, 15)]
    results += [result(9, [BOX], [BOX], true_labels=[1], labels=[3])]
    measured = evaluate(results, CLASSES, 0.5)
    assert largest_confusions(measured) == [("ace", "king", 3, 0.75), ("ace", "queen", 1, 0.25)]


@pytest.mark.parametrize("name", ["precision_recall", "thresholds", "confusion", "sizes"])
def test_every_figure_shows_what_it_is_about(name: str) -> None:
    """Another detector, another figure."""
    one, other = evaluate(random_results(1), CLASSES), evaluate(perfect(), CLASSES)
    first, second = getattr(figures, name)(one), getattr(figures, name)(other)
    assert Image.open(io.BytesIO(first)).format == "PNG"
    assert first != second and first == getattr(figures, name)(one)


def test_names_in_any_script_are_drawn_without_a_warning() -> None:
    names = ("\u9ed1\u6843", "\u0e44\u0e1e\u0e48", "ace")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measured = evaluate(random_results(1), names)
        assert figures.confusion(measured) and figures.precision_recall(measured)


def test_eighty_classes_are_drawn(recwarn: pytest.WarningsRecorder) -> None:
    names = tuple(f"a class with a long name {k}" for k in range(80))
    measured = evaluate(perfect(80), names)
    for name in ("precision_recall", "confusion"):
        assert len(getattr(figures, name)(measured)) < 500_000
    assert not recwarn.list
