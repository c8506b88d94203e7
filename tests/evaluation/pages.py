"""Results, pages and a parser of pages for the tests of the report."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from html.parser import HTMLParser

import numpy as np
from PIL import Image

from evaluation.detector_metrics import DetectorMetrics, detector_metrics
from evaluation.diagnosis.finding import Finding
from evaluation.figures import draw_figures
from evaluation.galleries import galleries
from evaluation.metrics.coco import CocoEvaluation
from evaluation.metrics.results import ImageResult
from evaluation.page import Contents, render
from tests.image_results import CLASSES, result

BOX, ELSEWHERE = [10, 10, 60, 60], [100, 100, 160, 160]
FINDING = Finding(
    0.3,
    "Something.",
    "It is <b>so</b>.",
    "Give --epochs 80 (no --image-size helps), --precision fp32, or <i>this</i>.",
)


def metrics_of(
    results: Sequence[ImageResult], names: Sequence[str] = CLASSES, threshold: float = 0.5
) -> DetectorMetrics:
    return detector_metrics(CocoEvaluation(results, names), threshold)


def picture(image_id: int) -> tuple[str, Image.Image]:
    noise = np.random.default_rng(image_id).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    return f"{image_id}.jpg", Image.fromarray(noise).resize((350, 280))


def page_of(
    metrics: DetectorMetrics,
    pictures: Callable[[int], tuple[str, Image.Image]] = picture,
    texts: Sequence[tuple[str, str]] = (("recall", "<0.5"),),
) -> str:
    """texts: what the checkpoint and the facts contribute."""
    shown = galleries(metrics.outcomes, metrics.class_names, pictures)
    objects = dict.fromkeys(metrics.class_names, 3)
    figures = draw_figures(metrics)
    return render(Contents(texts[0][0], texts, metrics, figures, shown, [FINDING], texts, objects))


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
        self.outside: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("img", "meta", "br", "link", "input"):
            self.open.append(tag)
        if tag in ("script", "link", "iframe", "object", "embed", "base"):
            self.outside.append(tag)
        for name, value in attrs:
            inside = (value or "").startswith(("data:image/", "#"))
            if (name in ("src", "href", "srcset", "action") and not inside) or name[:2] == "on":
                self.outside.append(f"{tag} {name}={value}")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}>"


def outside(page: str) -> list[str]:
    parser = Outside()
    parser.feed(page)
    parser.close()
    assert not parser.open
    return parser.outside + re.findall(r"url\(|@import", page)
