"""The galleries: which images they show, in which order and colours."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from evaluation.galleries import IMAGES_EACH, RIGHT, WRONG, Gallery, galleries
from evaluation.metrics.results import ImageResult
from tests.evaluation.pages import BOX, ELSEWHERE, metrics_of, picture
from tests.image_results import CLASSES, result


def galleries_of(results: list[ImageResult], grey: bool = False) -> list[Gallery]:
    plain = Image.new("RGB", (350, 280), "#808080")
    pictures = (lambda image_id: (f"{image_id}.jpg", plain)) if grey else picture
    return galleries(metrics_of(results).outcomes, CLASSES, pictures)


def files(gallery: Gallery) -> list[str]:
    return [exhibit.file for exhibit in gallery.exhibits]


def pixels(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")).astype(int)


def assert_left_edge(jpeg: bytes, box: list[int], colour: str) -> None:
    x, y = box[:2]
    expected = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    np.testing.assert_allclose(pixels(jpeg)[y + 20 : y + 40, x].mean(axis=0), expected, atol=40)


def test_the_galleries_show_the_worst_images_first() -> None:
    results = [
        result(1, [BOX], [BOX]),
        result(2, [BOX], []),
        result(3, [BOX, ELSEWHERE], []),
        result(4, [], [BOX], scores=[0.6]),
        result(5, [], [BOX], scores=[0.9]),
        result(6, [BOX], [BOX], labels=[2]),
    ]
    missed, false, confused = galleries_of(results)
    assert files(missed) == ["3.jpg", "2.jpg"] and missed.images == 2
    assert files(false) == ["5.jpg", "4.jpg"]
    assert files(confused) == ["6.jpg"]
    assert missed.exhibits[0].caption == "2 objects missed: ace, ace"
    assert false.exhibits[0].caption == "1 false detection: ace 0.90"
    assert confused.exhibits[0].caption == "1 object with a wrong class: ace called king"


def test_a_gallery_shows_ground_truth_and_prediction_each_with_its_boxes() -> None:
    exhibit = galleries_of([result(2, [BOX], [])])[0].exhibits[0]
    truth, prediction = pixels(exhibit.truth), pixels(exhibit.prediction)
    assert truth.shape == prediction.shape == (280, 350, 3)
    change = np.abs(truth - prediction).max(axis=2) > 60
    assert change[10:60, 8:13].mean() > 0.3, "the left edge of the missed object"
    assert not change[:, 200:].any()


def test_the_colour_of_a_box_tells_what_became_of_it() -> None:
    """Missed and detected, of one class, whose own colour is neither."""
    exhibit = galleries_of([result(1, [BOX, ELSEWHERE], [ELSEWHERE])], grey=True)[0].exhibits[0]
    assert_left_edge(exhibit.truth, BOX, WRONG)
    assert_left_edge(exhibit.truth, ELSEWHERE, RIGHT)
    assert_left_edge(exhibit.prediction, ELSEWHERE, RIGHT)


def test_what_a_gallery_is_about_is_drawn_over_the_rest() -> None:
    """A false positive with a lower score than a true one of nearly the same box."""
    image = result(1, [BOX], [BOX, [10, 10, 61, 61]], [0.9, 0.6])
    (exhibit,) = galleries_of([image], grey=True)[1].exhibits
    assert_left_edge(exhibit.prediction, BOX, WRONG)


def test_a_gallery_has_a_bounded_number_of_images() -> None:
    missed = galleries_of([result(i, [BOX], []) for i in range(3 * IMAGES_EACH)])[0]
    assert len(missed.exhibits) == IMAGES_EACH and missed.images == 3 * IMAGES_EACH
