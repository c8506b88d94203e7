"""What can be described where no cause of a low mAP is proven."""

from __future__ import annotations

from collections.abc import Iterator

from evaluation.diagnosis.facts import Facts
from evaluation.diagnosis.finding import Finding, number, percent, quoted
from utils.text import listed

ENOUGH_TO_JUDGE = 10


def symptoms(facts: Facts, rest: float) -> Iterator[Finding]:
    """rest: share of the objects whose loss is not explained."""
    if facts.total_objects < ENOUGH_TO_JUDGE:
        yield Finding(
            rest,
            f"Only {number(facts.total_objects, 'object')} in validation: too few to tell.",
            f"{_recalls(facts)}.",
            "Give validation more images, with --validation-fraction 0.3 or a split of its own.",
        )
        return
    yield _not_detected(facts, min(facts.not_detected, rest))
    if facts.confusion.detected:
        yield _misnamed(facts, min(facts.misnamed, rest))
    t = facts.threshold
    if t.recommended is not None:
        yield Finding(
            1 - t.recommended_f1 - facts.not_detected - facts.misnamed,
            "It detects the objects, and much else.",
            f"{_recalls(facts)}, but there are {number(facts.detections, 'detection')} for "
            f"{number(facts.total_objects, 'object')}, and F1 is {t.recommended_f1:.2f} at the "
            f"best threshold, {t.recommended:.2f}.",
            "Look at the false detections: label what is an object after all, add images without "
            "objects, or train longer (--epochs 80).",
        )


def nothing_to_measure(facts: Facts) -> Finding:
    return Finding(
        1.0,
        "There are no objects in the validation images.",
        f"{number(facts.images, 'validation image')}, 0 objects, so no mAP can be measured; "
        f"{number(sum(facts.training_objects.values()), 'object')} in training.",
        "Label objects in the validation images, or hold out more with --validation-fraction 0.3.",
    )


def nothing_stands_out(facts: Facts) -> Finding:
    fit, t = facts.anchors, facts.threshold
    parts = [_recalls(facts)]
    if fit is not None:
        parts.append(f"{percent(fit.without_anchor)} of the boxes have no anchor")
    if t.recommended is not None:
        parts.append(f"F1 is {t.recommended_f1:.2f} at threshold {t.recommended:.2f}")
    few = facts.total_objects < ENOUGH_TO_JUDGE
    only = f", but only {number(facts.total_objects, 'object')}: too few to tell"
    return Finding(
        0.0,
        f"Nothing stands out{only if few else ''}.",
        f"{'; '.join(parts)}.",
        "More labelled images and longer training (--epochs 80) are what usually helps.",
    )


def _not_detected(facts: Facts, severity: float) -> Finding:
    if not facts.detections:
        title = "It detects nothing at all."
        evidence = (
            f"No detection of score 0.05 in {number(facts.images, 'image')} with "
            f"{number(facts.total_objects, 'object')}."
        )
    else:
        half = facts.recall_any < 0.5
        title = "It does not detect the objects." if half else "It misses objects."
        evidence = f"{_recalls(facts)}."
    return Finding(
        severity,
        title,
        evidence,
        "See whether it can learn at all: train with --overfit 8; if it can, train longer "
        "(--epochs 80) or on more images.",
    )


def _misnamed(facts: Facts, severity: float) -> Finding:
    names, confusion = facts.class_names, facts.confusion
    mistakes = sorted(
        (-count, annotated, predicted)
        for annotated, row in enumerate(facts.names)
        for predicted, count in enumerate(row)
        if count and annotated != predicted
    )
    what = listed((f"{quoted(names[t])} as {quoted(names[p])} {-n}" for n, t, p in mistakes), 3)
    return Finding(
        severity,
        "It detects objects but with wrong names.",
        f"Of {number(confusion.detected, 'object')} detected, {confusion.correct} have the correct "
        f"name{'; most often wrong: ' + what if what else ''}.",
        "Train longer (--epochs 80), and look at these classes' labels.",
    )


def _recalls(facts: Facts) -> str:
    return (
        f"{percent(facts.recall_any)} of {number(facts.total_objects, 'object')} have a detection "
        f"on them, {percent(facts.recall_named)} one with the correct name"
    )
