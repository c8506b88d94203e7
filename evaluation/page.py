"""``report.html``: one file that opens from disk, with everything it shows inside it."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.diagnosis.finding import Finding, percent
from evaluation.galleries import CONFUSED, OTHER, RIGHT, WRONG, Gallery
from evaluation.metrics.coco import SUMMARY_ROWS, show
from evaluation.summary import Evaluation
from utils.console import harmless

if TYPE_CHECKING:
    from markupsafe import Markup

CONFUSIONS_LISTED = 8
# A flag and its value, in text that is escaped already.
FLAG = re.compile(r"--[a-z][a-z-]*( [a-z]*[\d.]*\d)?")


@dataclass(frozen=True)
class Contents:
    """What a report shows.

    title: the detector's name. about: (label, text) facts on checkpoint, data and machine.
    figures: name to PNG. findings: the ranked diagnosis. measured: (what, its figures), the facts
    behind it. train_objects: objects of each class in the training images.
    """

    title: str
    about: Sequence[tuple[str, str]]
    evaluation: Evaluation
    figures: Mapping[str, bytes]
    galleries: Sequence[Gallery]
    findings: Sequence[Finding]
    measured: Sequence[tuple[str, str]] = ()
    train_objects: Mapping[str, int] = field(default_factory=dict)


def render(contents: Contents) -> str:
    """The page. Names from data sets are escaped; scripts and links to elsewhere there are none."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[[Any], str]] = {
        "score": show,
        "percent": percent,
        "embed": _embedded,
        "flags": _mark_flags,
    }
    environment.filters |= filters
    evaluation = contents.evaluation
    return environment.get_template("page.html").render(
        page=contents,
        colours={"right": RIGHT, "wrong": WRONG, "confused": CONFUSED, "other": OTHER},
        evaluation=evaluation,
        metrics=evaluation.metrics,
        summary_rows=list(zip(SUMMARY_ROWS, evaluation.metrics.summary, strict=True)),
        objects=sum(evaluation.coco.objects.values()),
        outcome=_outcome_counts(evaluation),
        confusions=largest_confusions(evaluation),
    )


def largest_confusions(evaluation: Evaluation) -> list[tuple[str, str, int, float]]:
    """(true name, detected name, how often, share of the true class), the most frequent first."""
    counts = evaluation.confusion[:-1, :-1].copy()
    np.fill_diagonal(counts, 0)
    rows = evaluation.confusion[:-1].sum(axis=1)
    names = evaluation.class_names
    order = sorted(zip(*counts.nonzero(), strict=True), key=lambda cell: -counts[cell])
    return [
        (names[t], names[k], int(counts[t, k]), counts[t, k] / rows[t])
        for t, k in order[:CONFUSIONS_LISTED]
    ]


def _outcome_counts(evaluation: Evaluation) -> dict[str, int]:
    """Of all objects: right, misnamed, missed; and detections that are false."""
    matrix = evaluation.confusion
    right = int(np.trace(matrix[:-1, :-1]))
    return {
        "right": right,
        "misnamed": int(matrix[:-1, :-1].sum()) - right,
        "missed": int(matrix[:-1, -1].sum()),
        "false": int(matrix[-1].sum()),
    }


def _mark_flags(text: str) -> Markup:
    """``--epochs 80`` as code; everything else is escaped."""
    from markupsafe import Markup, escape

    return Markup(FLAG.sub(r"<code>\g<0></code>", str(escape(harmless(text)))))


def _harmless(value: Any) -> Any:
    """Names may hold signs that turn the direction of what follows; ours are no such text."""
    return harmless(value) if type(value) is str else value


def _embedded(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
