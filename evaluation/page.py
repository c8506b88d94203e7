"""``report.html``: one file that opens from disk, with everything it shows inside it."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from evaluation.detector_metrics import DetectorMetrics
from evaluation.diagnosis.finding import Finding, percent
from evaluation.galleries import CONFUSED, OTHER, RIGHT, WRONG, Gallery
from evaluation.metrics.coco import SUMMARY_ROWS, show
from utils.console import harmless

CONFUSIONS_LISTED = 8
# A flag and its value, in text that is escaped already.
FLAG = re.compile(r"--[a-z][a-z-]*( [a-z]*[\d.]*\d)?")


@dataclass(frozen=True)
class Contents:
    """What a report shows.

    title: the detector's name. about: (label, text) facts on checkpoint, data and machine.
    figures: PNGs by name. findings: the ranked diagnosis. facts: (what, its figures), those behind
    the diagnosis. train_objects: objects of each class in the training images.
    """

    title: str
    about: Sequence[tuple[str, str]]
    metrics: DetectorMetrics
    figures: Mapping[str, bytes]
    galleries: Sequence[Gallery]
    findings: Sequence[Finding]
    facts: Sequence[tuple[str, str]] = ()
    train_objects: Mapping[str, int] = field(default_factory=dict)


def render(contents: Contents) -> str:
    """The page. Names from data sets are escaped; it has no script and no external link."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(score=show, percent=percent, embed=_embedded, flags=_mark_flags)
    metrics = contents.metrics
    return environment.get_template("page.html").render(
        page=contents,
        colours={"right": RIGHT, "wrong": WRONG, "confused": CONFUSED, "other": OTHER},
        metrics=metrics,
        coco=metrics.coco,
        summary_rows=list(zip(SUMMARY_ROWS, metrics.coco.summary, strict=True)),
        outcome=_outcome_counts(metrics),
        confusions=largest_confusions(metrics),
    )


def largest_confusions(metrics: DetectorMetrics) -> list[tuple[str, str, int, float]]:
    """(annotated name, predicted name, count, share of the class), the most frequent first."""
    counts = metrics.confusion[:-1, :-1].copy()
    np.fill_diagonal(counts, 0)
    rows = metrics.confusion[:-1].sum(axis=1)
    names = metrics.class_names
    order = sorted(zip(*counts.nonzero(), strict=True), key=lambda cell: -counts[cell])
    return [
        (names[t], names[k], int(counts[t, k]), counts[t, k] / rows[t])
        for t, k in order[:CONFUSIONS_LISTED]
    ]


def _outcome_counts(metrics: DetectorMetrics) -> dict[str, int]:
    """Objects detected with the correct class, with a wrong one, or missed; and false positives."""
    matrix = metrics.confusion
    correct = int(np.trace(matrix[:-1, :-1]))
    return {
        "correct": correct,
        "wrong_class": int(matrix[:-1, :-1].sum()) - correct,
        "missed": int(matrix[:-1, -1].sum()),
        "false": int(matrix[-1].sum()),
    }


def _mark_flags(text: str) -> Markup:
    """``--epochs 80`` as code; everything else is escaped."""
    return Markup(FLAG.sub(r"<code>\g<0></code>", str(escape(harmless(text)))))


def _harmless(value: Any) -> Any:
    """Names may contain control characters; markup of ours is left as it is."""
    return harmless(value) if type(value) is str else value


def _embedded(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
