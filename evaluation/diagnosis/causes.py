"""Causes of a low mAP that a measurement proves: each function yields findings, or none.

A severity is the share of the validation objects that the cause accounts for. It never exceeds the
share that is lost in the way in which this cause loses objects.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from evaluation.diagnosis.anchor_fit import AnchorFit
from evaluation.diagnosis.facts import Facts
from evaluation.diagnosis.finding import MOST_LISTED, Finding, number, percent, quoted
from utils.text import listed

EQUALLY_GOOD = 0.05  # difference in the share of boxes without an anchor
COMPARE_LABELS = "compare the names in the annotation files with the images"
TRAIN_LONGER = "Train longer (--epochs 80); if that changes nothing, "


def frozen_backbone(facts: Facts) -> Iterator[Finding]:
    p = facts.parameters
    # Where nothing at all trains, as in averaged weights, this says nothing about the run.
    frozen = p.trainable > 0 and 2 * p.backbone_trainable < p.backbone
    never_trained = facts.training.get("steps", 0) > 0
    if not (p.backbone and p.untrained and (frozen or p.norms_frozen or never_trained)):
        return
    if frozen or not p.norms_frozen:
        title = "The backbone is frozen and has no pretrained weights."
        trains = f"{p.backbone_trainable} of its {p.backbone} parameters train"
        how = trains if p.trainable else "training has not changed them"
    else:
        title = "The backbone's batch norm is frozen, but its weights are not pretrained."
        how = "training does not change them"
    claim = "weights were claimed" if p.pretrained else "no weights were claimed"
    yield Finding(
        facts.lost,
        title,
        f"The backbone's {number(p.norms, 'batch norm')} have their initial values ({claim} for "
        f"it) and {how}; {percent(1 - facts.lost)} of {number(facts.total_objects, 'object')} are "
        "detected with the correct name.",
        "Train all of it: leave --trainable-layers out and give --backbone-weights none, or give "
        "real weights with --backbone-weights imagenet.",
    )


def missing_classes(facts: Facts) -> Iterator[Finding]:
    missing = [
        (k, name, count)
        for k, (name, count) in enumerate(facts.objects.items())
        if count and not facts.training_objects.get(name, 0)
    ]
    if missing:
        yield Finding(
            sum(count - facts.names[k][k] for k, _, count in missing) / facts.total_objects,
            "Classes are missing from the training images.",
            "Without a single training object, but in the validation images: "
            f"{listed((f'{quoted(name)} ({count})' for _, name, count in missing), MOST_LISTED)}.",
            "Label objects of these classes in the training images, or take another split "
            "(--validation-fraction, --seed) where the data set has none of its own.",
        )


def unfit_anchors(facts: Facts) -> Iterator[Finding]:
    fit = facts.anchors
    if fit is None or not fit.boxes:
        return
    smaller, larger = "smaller than every anchor", "larger than every anchor"
    far = "too wide, too tall or too far from the anchors' locations"
    cut = "cut the images into parts, so that the objects are larger in them"
    shrink = "give a much smaller --image-size or a much larger --anchor-scale"
    relabel = "where the labels allow it, label such objects in squarer parts"
    for share, title, what, otherwise in (
        (fit.too_small, f"Objects are {smaller}.", smaller, cut),
        (fit.too_large, f"Objects are {larger}.", larger, shrink),
        (fit.odd_shape, "Objects have a shape or a position that no anchor fits.", far, relabel),
    ):
        yield Finding(
            min(share, facts.not_detected),
            title,
            f"{percent(share)} of {number(fit.boxes, 'training box', 'es')} have no anchor of IoU "
            f"0.5 because they are {what}; as the model sees them the median box has a side of "
            f"{fit.median_side:.0f} pixels and the anchors have {fit.smallest_side:.0f} to "
            f"{fit.largest_side:.0f}.",
            _better_anchors(fit, otherwise),
        )


def _better_anchors(fit: AnchorFit, otherwise: str) -> str:
    """The cheapest of the equally good flags: smaller images first, then the nearest scale."""
    best = min((t.without_anchor for t in fit.trials), default=math.nan)
    trial = min(
        (t for t in fit.trials if t.without_anchor <= best + EQUALLY_GOOD),
        key=lambda t: (t.image_size, abs(math.log(t.anchor_scale / fit.anchor_scale))),
        default=None,
    )
    if trial is None or trial.without_anchor > 0.8 * fit.without_anchor:
        return f"No --anchor-scale or --image-size that was tried helps; {otherwise}."
    flags = []
    if trial.anchor_scale != fit.anchor_scale:
        flags.append(f"--anchor-scale {trial.anchor_scale:g}")
    if trial.image_size != fit.image_size:
        flags.append(f"--image-size {trial.image_size}")
    return (
        f"Train anew with {' '.join(flags)}: then {percent(trial.without_anchor)} of the boxes "
        f"have no anchor, now {percent(fit.without_anchor)}."
    )


def wrong_labels(facts: Facts) -> Iterator[Finding]:
    """Names exchanged, one class called another, and names that mean nothing."""
    names, confusion = facts.class_names, facts.confusion
    advice = f"{COMPARE_LABELS.capitalize()}, correct them and train anew; if they are right, "
    for cycle in confusion.exchanged:
        yield _called(
            facts,
            list(zip(cycle, (*cycle[1:], cycle[0]), strict=True)),
            f"The names {listed((quoted(names[k]) for k in cycle), MOST_LISTED)} are exchanged.",
            f"{advice}compare the order of the classes.",
        )
    for annotated, predicted in confusion.called:
        yield _called(
            facts,
            [(annotated, predicted)],
            f"{quoted(names[annotated])} is called {quoted(names[predicted])}.",
            f"{advice}label more objects of both classes.",
        )
    if confusion.at_chance:
        yield _names_at_chance(facts)


def _called(facts: Facts, pairs: list[tuple[int, int]], title: str, advice: str) -> Finding:
    """pairs: (annotated, predicted)."""
    names = facts.class_names
    called = (
        f"{facts.names[k][name]} of {sum(facts.names[k])} {quoted(names[k])} are called "
        f"{quoted(names[name])}"
        for k, name in pairs
    )
    share = sum(facts.names[k][name] for k, name in pairs) / facts.total_objects
    return Finding(share, title, f"Of the objects detected, {listed(called, MOST_LISTED)}.", advice)


def _names_at_chance(facts: Facts) -> Finding:
    confusion = facts.confusion
    if confusion.only_name is not None:
        only = quoted(facts.class_names[confusion.only_name])
        title = f"Nearly everything is called {only}: no better than chance."
        advice = f"the labels may be shuffled: {COMPARE_LABELS}."
    else:
        title = "The names are hardly better than chance: not learned yet, or shuffled labels."
        advice = f"{COMPARE_LABELS}, correct them and train anew."
    return Finding(
        (confusion.detected - confusion.correct) / facts.total_objects,
        title,
        f"On {number(confusion.detected, 'object')} detected, the highest-scoring detection has "
        f"the correct name {confusion.correct} times "
        f"({percent(confusion.correct / confusion.detected)}); the same names in random order "
        f"would be correct for {percent(confusion.chance)}.",
        f"{TRAIN_LONGER}{advice}",
    )


def unfit_threshold(facts: Facts) -> Iterator[Finding]:
    """What the threshold in use loses of the objects that are detected."""
    t = facts.threshold
    if not facts.detections or t.recommended is None:
        return
    if not t.passing:
        severity, title = t.lowest_recall, "No detection passes the score threshold."
        evidence = (
            f"The highest of {number(facts.detections, 'score')} is {facts.highest_score:.2f} and "
            f"the threshold in use {t.value:.2f}"
        )
    elif t.value > t.recommended:
        severity, title = t.recommended_recall - t.recall, "The score threshold is too high."
        evidence = (
            f"At the threshold in use, {t.value:.2f}, {percent(t.recall)} of the objects are "
            "detected correctly"
        )
    else:
        severity, title = t.recommended_f1 - t.f1, "The score threshold is too low."
        evidence = (
            f"At the threshold in use, {t.value:.2f}, F1 is {t.f1:.2f} with {t.passing} "
            f"detections for {number(facts.total_objects, 'object')}"
        )
    yield Finding(
        severity,
        title,
        f"{evidence}; from {t.recommended:.2f} on, {percent(t.recommended_recall)} of the objects "
        f"are detected correctly with F1 {t.recommended_f1:.2f}.",
        f"Give --score-threshold {t.recommended:.2f}.",
    )
