"""Causes that a measurement proves: each function says one, or nothing.

The severity is the share of the validation objects that the cause accounts for, and never more than
what is lost in the way in which the cause loses objects.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from evaluation.diagnosis.anchor_coverage import AnchorFit, AnchorTrial
from evaluation.diagnosis.class_confusion import Naming
from evaluation.diagnosis.facts import Facts
from evaluation.diagnosis.finding import Finding, listed, number, percent, quoted

# Flags that leave this many more boxes without an anchor than the best ones are as good.
AS_GOOD = 0.05
LOOK_AT_LABELS = (
    "Compare the names in the annotation files with the pictures, correct them and train anew"
)


def frozen_backbone(facts: Facts, lost: float) -> Iterator[Finding]:
    """lost: share of the objects not found or misnamed."""
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
        how = "it is kept as it is"
    claim = "weights were claimed" if p.pretrained else "no weights were claimed"
    yield Finding(
        lost,
        title,
        f"The backbone's {number(p.norms, 'batch norm')} are still as they were made ({claim} for "
        f"it) and {how}; {percent(1 - lost)} of {number(facts.total_objects, 'object')} are found "
        "under their names.",
        "Train all of it: leave --trainable-layers out and give --backbone-weights none, or give "
        "real weights with --backbone-weights imagenet.",
    )


def missing_classes(facts: Facts) -> Iterator[Finding]:
    missing = [
        name
        for name, count in facts.objects.items()
        if count and not facts.training_objects.get(name, 0)
    ]
    if not missing:
        return
    rows = {name: k for k, name in enumerate(facts.class_names)}
    lost = sum(facts.objects[name] - facts.names[rows[name]][rows[name]] for name in missing)
    what = listed(f"{quoted(name)} ({facts.objects[name]})" for name in missing)
    yield Finding(
        lost / facts.total_objects,
        "Classes are missing from the training images.",
        f"Without a single training object, but in the validation images: {what}.",
        "Label objects of these classes in the training images, or take another split "
        "(--validation-fraction, --seed) where the data set has none of its own.",
    )


def unfit_anchors(facts: Facts, not_found: float) -> Iterator[Finding]:
    """not_found: share of the objects without a detection in their place."""
    fit = facts.anchors
    if fit is None or not fit.boxes:
        return
    boxes = number(fit.boxes, "training box", "es")
    sizes = (
        f"as the model sees them the median box has a side of {fit.median_side:.0f} pixels and the "
        f"anchors have {fit.smallest_side:.0f} to {fit.largest_side:.0f}"
    )
    kinds = (
        (
            fit.too_small,
            "Objects are smaller than every anchor.",
            "smaller than every anchor",
            "cut the pictures into parts, so that the objects are larger in them",
        ),
        (
            fit.too_large,
            "Objects are larger than every anchor.",
            "larger than every anchor",
            "give a much smaller --image-size or a much larger --anchor-scale",
        ),
        (
            fit.odd_shape,
            "Objects have a shape or a place that no anchor fits.",
            "too long, too tall or too far between the anchors' places",
            "where the labels allow it, label such objects in squarer parts",
        ),
    )
    for share, title, what, otherwise in kinds:
        yield Finding(
            min(share, not_found),
            title,
            f"{percent(share)} of {boxes} have no anchor of IoU 0.5 because they are {what}; "
            f"{sizes}.",
            _better_anchors(fit, otherwise),
        )


def _better_anchors(fit: AnchorFit, otherwise: str) -> str:
    trial = _best_trial(fit)
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


def _best_trial(fit: AnchorFit) -> AnchorTrial | None:
    """The cheapest of those as good as the best: smaller images first, then the nearest scale."""
    best = min((t.without_anchor for t in fit.trials), default=math.nan)
    good = [t for t in fit.trials if t.without_anchor <= best + AS_GOOD]
    return min(
        good,
        key=lambda t: (t.image_size, abs(math.log(t.anchor_scale / fit.anchor_scale))),
        default=None,
    )


def wrong_labels(facts: Facts, naming: Naming) -> Iterator[Finding]:
    """Names exchanged, one class called another, and names that mean nothing."""
    names, total = facts.class_names, facts.total_objects
    for circle in naming.exchanged:
        pairs = list(zip(circle, (*circle[1:], circle[0]), strict=True))
        who = listed(quoted(names[k]) for k in circle)
        yield Finding(
            sum(facts.names[true][said] for true, said in pairs) / total,
            f"The names {who} are exchanged.",
            f"{_called(facts, pairs)}.",
            f"{LOOK_AT_LABELS}; if they are right, compare the order of the classes.",
        )
    for true, said in naming.called:
        yield Finding(
            facts.names[true][said] / total,
            f"{quoted(names[true])} is called {quoted(names[said])}.",
            f"{_called(facts, [(true, said)])}.",
            f"{LOOK_AT_LABELS}; if they are right, label more objects of both classes.",
        )
    if naming.at_chance:
        yield _names_at_chance(facts, naming)


def _names_at_chance(facts: Facts, naming: Naming) -> Finding:
    figures = (
        f"Of {number(naming.named, 'object')} found, {naming.right} "
        f"({percent(naming.right / naming.named)}) have their own name on their surest detection; "
        f"names given at random as often as these would be right for {percent(naming.chance)}"
    )
    severity = (naming.named - naming.right) / facts.total_objects
    if naming.only_name is not None:
        only = quoted(facts.class_names[naming.only_name])
        return Finding(
            severity,
            f"Nearly everything is called {only}: no better than chance.",
            f"{figures}.",
            "Train longer (--epochs 80); if that changes nothing, the labels may be shuffled: "
            "compare the names in the annotation files with the pictures.",
        )
    return Finding(
        severity,
        "The names are hardly better than chance: not learned yet, or the labels are shuffled.",
        f"{figures}.",
        "Train longer (--epochs 80); if that changes nothing, compare the names in the annotation "
        "files with the pictures, correct them and train anew.",
    )


def _called(facts: Facts, pairs: list[tuple[int, int]]) -> str:
    names = facts.class_names
    return "Of the objects found, " + listed(
        f"{facts.names[true][said]} of {sum(facts.names[true])} {quoted(names[true])} are called "
        f"{quoted(names[said])}"
        for true, said in pairs
    )


def unfit_threshold(facts: Facts) -> Iterator[Finding]:
    """What the threshold in use loses of that which is detected."""
    t = facts.threshold
    if not facts.detections or t.recommended is None:
        return
    better = (
        f"from {t.recommended:.2f} on, {percent(t.recommended_recall)} of the objects are found "
        f"rightly with F1 {t.recommended_f1:.2f}"
    )
    advice = f"Give --score-threshold {t.recommended:.2f}."
    if not t.passing:
        yield Finding(
            t.lowest_recall,
            "No detection passes the score threshold.",
            f"The highest of {number(facts.detections, 'score')} is {facts.highest_score:.2f} and "
            f"the threshold in use {t.value:.2f}; {better}.",
            advice,
        )
    elif t.value > t.recommended:
        yield Finding(
            t.recommended_recall - t.recall,
            "The score threshold is too high.",
            f"At the threshold in use, {t.value:.2f}, {percent(t.recall)} of the objects are found "
            f"rightly; {better}.",
            advice,
        )
    else:
        yield Finding(
            t.recommended_f1 - t.f1,
            "The score threshold is too low.",
            f"At the threshold in use, {t.value:.2f}, F1 is {t.f1:.2f} with {t.passing} "
            f"detections for {number(facts.total_objects, 'object')}; {better}.",
            advice,
        )
