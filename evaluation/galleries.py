"""The images that a detector fails on, the worst first: ground truth beside prediction."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from evaluation.metrics.outcomes import Outcome
from evaluation.metrics.results import Detections
from utils.text import listed
from utils.visualisation import draw_boxes

IMAGES_EACH = 8
ERRORS_LISTED = 4
SIDE = 420  # pixels of the longer side
QUALITIES = (80, 65, 50, 35)
# 48 of these are 2.8 MB, so that the page stays under 5 MB whatever the images are.
BYTES_OF_AN_IMAGE = 58_000

# True positives; missed objects and false positives; confusions; ignored. The page uses them too.
RIGHT, WRONG, CONFUSED, OTHER = "#2E9E6B", "#D55E00", "#E69F00", "#9AA3B2"


@dataclass(frozen=True)
class Exhibit:
    """One image of a gallery: two JPEGs and what went wrong, in words. file: the image's."""

    file: str
    truth: bytes
    prediction: bytes
    caption: str


@dataclass(frozen=True)
class Gallery:
    """title, what it shows, and its exhibits; images: how many have such an error in all."""

    title: str
    meaning: str
    images: int
    exhibits: tuple[Exhibit, ...]


def _confused(outcome: Outcome, names: Sequence[str]) -> list[str]:
    annotated = outcome.result.ground_truth.labels[outcome.confused_object[outcome.confused]]
    predicted = outcome.result.detections.labels[outcome.confused]
    pairs = zip(annotated, predicted, strict=True)
    return [f"{names[k - 1]} called {names[name - 1]}" for k, name in pairs]


def _with_scores(detections: Detections, names: Sequence[str]) -> list[str]:
    rows = zip(detections.labels, detections.scores, strict=True)
    return [f"{names[k - 1]} {score:.2f}" for k, score in rows]


@dataclass(frozen=True)
class _Kind:
    """A kind of error.

    errors: those of an image, in words. badness: of an image, by which they are ranked. marked:
    bool (M,), the detections that the gallery is about, which are drawn over the others.
    """

    title: str
    meaning: str
    words: tuple[str, str]
    errors: Callable[[Outcome, Sequence[str]], list[str]]
    badness: Callable[[Outcome], float]
    marked: Callable[[Outcome], np.ndarray]


KINDS = (
    _Kind(
        "Missed objects",
        "Objects without any detection on them; images with the most of them first.",
        ("object missed", "objects missed"),
        lambda o, names: [names[k - 1] for k in o.result.ground_truth.labels[o.missed]],
        lambda o: float(o.missed.sum()),
        lambda o: o.confused,
    ),
    _Kind(
        "False detections",
        "Detections on no object, or on one that has a detection already; the most and the "
        "highest scores first.",
        ("false detection", "false detections"),
        lambda o, names: _with_scores(o.result.detections.keep(o.false_positive), names),
        lambda o: float(o.result.detections.scores[o.false_positive].sum()),
        lambda o: o.false_positive,
    ),
    _Kind(
        "Confusions",
        "Objects detected with a wrong class; the most and the highest scores first.",
        ("object with a wrong class", "objects with a wrong class"),
        _confused,
        lambda o: float(o.result.detections.scores[o.confused].sum()),
        lambda o: o.confused,
    ),
)


def galleries(
    outcomes: Sequence[Outcome],
    class_names: Sequence[str],
    picture: Callable[[int], tuple[str, Image.Image]],
) -> list[Gallery]:
    """One for each kind of error. picture: file name and RGB image of an image_id."""
    shown = []
    for kind in KINDS:
        failing = [o for o in outcomes if kind.badness(o) > 0]
        worst = sorted(failing, key=kind.badness, reverse=True)[:IMAGES_EACH]
        exhibits = (_exhibit(kind, o, class_names, *picture(o.result.image_id)) for o in worst)
        shown.append(Gallery(kind.title, kind.meaning, len(failing), tuple(exhibits)))
    return shown


def _exhibit(
    kind: _Kind, outcome: Outcome, class_names: Sequence[str], file: str, picture: Image.Image
) -> Exhibit:
    caption = _caption(kind, outcome, class_names)
    # What is drawn last is seen whole.
    scores = outcome.result.detections.scores
    outcome = outcome.ordered(np.lexsort((scores, kind.marked(outcome))))
    objects, detections = outcome.result.ground_truth, outcome.result.detections
    scale = min(1.0, SIDE / max(picture.size))
    small = picture.resize([max(1, round(s * scale)) for s in picture.size], Image.Resampling.BOX)
    names, colours = [class_names[k - 1] for k in objects.labels], _object_colours(outcome)
    truth = draw_boxes(small, objects.boxes * scale, objects.labels, names, colours)
    names, colours = _with_scores(detections, class_names), _detection_colours(outcome)
    prediction = draw_boxes(small, detections.boxes * scale, detections.labels, names, colours)
    return Exhibit(file, _jpeg(truth), _jpeg(prediction), caption)


def _caption(kind: _Kind, outcome: Outcome, class_names: Sequence[str]) -> str:
    """``2 objects missed: king, king``."""
    errors = kind.errors(outcome, class_names)
    return f"{len(errors)} {kind.words[len(errors) != 1]}: {listed(errors, ERRORS_LISTED)}"


def _object_colours(outcome: Outcome) -> list[str]:
    colours = np.where(outcome.detected, RIGHT, CONFUSED)
    colours = np.where(outcome.missed, WRONG, colours)
    ignored = outcome.result.ground_truth.difficult & ~outcome.detected
    return np.where(ignored, OTHER, colours).tolist()


def _detection_colours(outcome: Outcome) -> list[str]:
    colours = np.where(outcome.true_positive, RIGHT, OTHER)
    colours = np.where(outcome.confused, CONFUSED, colours)
    return np.where(outcome.false_positive, WRONG, colours).tolist()


def _jpeg(image: Image.Image) -> bytes:
    """At most ``BYTES_OF_AN_IMAGE``: of a lower quality, then smaller, where that is needed."""
    for quality in QUALITIES:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality, optimize=True)
        if file.tell() <= BYTES_OF_AN_IMAGE:
            return file.getvalue()
    return _jpeg(image.resize((max(1, image.width * 3 // 4), max(1, image.height * 3 // 4))))
