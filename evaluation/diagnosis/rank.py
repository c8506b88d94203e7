"""Why a detector is as bad as it is: ranked findings in plain words, from measured facts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from evaluation.diagnosis.causes import (
    frozen_backbone,
    missing_classes,
    unfit_anchors,
    unfit_threshold,
    wrong_labels,
)
from evaluation.diagnosis.class_confusion import Naming, look_at_names
from evaluation.diagnosis.facts import Facts
from evaluation.diagnosis.finding import Finding, listed, number, percent, quoted

NOTABLE = 0.1  # severities below say nothing
ENOUGH_OBJECTS = 10
FEW_STEPS = 300
WARMUP_STEPS = 100  # where the facts say nothing
HIGH_RATE, LOW_RATE = 1e-2, 1e-5  # of AdamW
HIGH_LOSS = 5.0
RARE = 0.05  # of the objects of the most frequent class


def diagnose(facts: Facts) -> list[Finding]:
    """What loses the objects, the worst first; at least one finding.

    Proven causes come first; circumstances that could be a cause, and then what can only be
    described, share what the causes leave unexplained.
    """
    if not facts.total_objects:
        return [_nothing_to_find(facts)]
    naming = look_at_names(facts.names)
    not_found = 1 - facts.recall_any
    misnamed = min((naming.named - naming.right) / facts.total_objects, facts.recall_any)
    lost = not_found + misnamed

    frozen = list(frozen_backbone(facts, lost))
    labels = wrong_labels(facts, naming)
    missing = list(missing_classes(facts))
    causes = [*frozen, *missing, *unfit_anchors(facts, not_found)]
    # A backbone that knows nothing gives names at random, whatever the labels are.
    causes += [_at_most(f, lost - _sum(frozen)) for f in labels]
    rest = max(0.0, lost - _sum(causes))
    circumstances = [_at_most(f, rest) for f in _circumstances(facts)]
    rest -= max((f.severity for f in circumstances), default=0.0)
    symptoms = list(_symptoms(facts, naming, not_found, misnamed, rest))
    every = [*causes, *unfit_threshold(facts), *circumstances, *symptoms]
    # A class that cannot be learned is worth a word however rare it is.
    notable = [f for f in every if f.severity >= NOTABLE or (f in missing and f.severity > 0)]
    # Sorting keeps the order of equals: a cause stays before what may follow from it.
    return sorted(notable, key=lambda f: -f.severity) or [_nothing_stands_out(facts, naming)]


def _circumstances(facts: Facts) -> Iterator[Finding]:
    yield from _rare_classes(facts)
    yield from _learning_rate(facts)
    yield from _few_steps(facts)


def _rare_classes(facts: Facts) -> Iterator[Finding]:
    counts = facts.training_objects
    most = max(counts.values(), default=0)
    rare = [
        (k, name)
        for k, name in enumerate(facts.class_names)
        if facts.objects[name] and 0 < counts.get(name, 0) < RARE * most
    ]
    if rare:
        lost = sum(facts.objects[name] - facts.names[k][k] for k, name in rare)
        what = listed(f"{quoted(name)} {counts[name]}" for _, name in rare)
        yield Finding(
            lost / facts.total_objects,
            "Some classes are rare in training.",
            f"Training objects: {what}, but {most} of the most frequent class.",
            "Label more objects of the rare classes.",
        )


def _learning_rate(facts: Facts) -> Iterator[Finding]:
    rate, loss = facts.training.get("learning_rate"), facts.training.get("loss")
    said = "" if loss is None else f", the loss is {loss:.3g}"
    if rate is not None and not LOW_RATE < rate < HIGH_RATE:
        high = rate >= HIGH_RATE
        yield Finding(
            1.0,
            f"The learning rate is very {'high' if high else 'low'}.",
            f"Its peak is {rate:.1e}{said}; the default is 1e-3.",
            "Train anew with --learning-rate 0.001.",
        )
    elif loss is not None and loss >= HIGH_LOSS:
        yield Finding(
            1.0,
            "The loss is very high: training goes astray.",
            f"It is {loss:.3g}{'' if rate is None else f' at a peak learning rate of {rate:.1e}'}.",
            "Train anew with --learning-rate 0.0003 --precision fp32.",
        )
    elif loss == 0:
        yield Finding(
            1.0,
            "The loss is zero: there is nothing to learn from.",
            f"{number(sum(facts.training_objects.values()), 'object')} in the training images.",
            "Look at the training annotations: objects have to be labelled there.",
        )


def _few_steps(facts: Facts) -> Iterator[Finding]:
    steps = facts.training.get("steps")
    if steps is None:
        return
    planned = max(steps, facts.training.get("planned_steps", steps))
    warmup = facts.training.get("warmup_steps", WARMUP_STEPS)
    if steps >= max(FEW_STEPS, warmup):
        return
    in_warmup = f"; the warm-up alone takes {warmup:.0f}" if steps <= warmup else ""
    of = f" of {planned:.0f}" if planned > steps else ""
    images = facts.training.get("images")
    seen = f" with {images:.0f} images an epoch" if images is not None else ""
    if planned >= FEW_STEPS:
        advice = f"Let it go on: {planned:.0f} steps are planned; look again after {FEW_STEPS}."
    else:
        advice = "Give more --epochs or a smaller --batch-size, so that it takes 1000 steps."
    yield Finding(
        1.0,
        "It has hardly been trained yet.",
        f"Training has done {steps:.0f}{of} steps{seen}{in_warmup}.",
        advice,
    )


def _symptoms(
    facts: Facts, naming: Naming, not_found: float, misnamed: float, rest: float
) -> Iterator[Finding]:
    """What is left to say where no cause is proven. rest: share of the objects unexplained."""
    if facts.total_objects < ENOUGH_OBJECTS:
        yield Finding(
            rest,
            f"Only {number(facts.total_objects, 'object')} in validation: too few to tell.",
            f"{_recalls(facts)}.",
            "Give validation more images, with --validation-fraction 0.3 or a split of its own.",
        )
        return
    yield _does_not_find(facts, min(not_found, rest))
    if naming.named:
        yield _misnames(facts, naming, min(misnamed, rest))
    t = facts.threshold
    if t.recommended is not None:
        yield Finding(
            1 - t.recommended_f1 - not_found - misnamed,
            "It finds the objects, and much else.",
            f"{_recalls(facts)}, but {facts.detections} detections stand for "
            f"{number(facts.total_objects, 'object')}, and F1 is {t.recommended_f1:.2f} at the "
            f"best threshold, {t.recommended:.2f}.",
            "Look at the false detections: label what is an object after all, add pictures without "
            "objects, or train longer (--epochs 80).",
        )


def _does_not_find(facts: Facts, severity: float) -> Finding:
    advice = (
        "See whether it can learn at all: train with --overfit 8; if it can, train longer "
        "(--epochs 80) or on more images."
    )
    if not facts.detections:
        return Finding(
            severity,
            "It detects nothing at all.",
            f"No detection of score 0.05 in {number(facts.images, 'image')} with "
            f"{number(facts.total_objects, 'object')}.",
            advice,
        )
    return Finding(
        severity,
        "It does not find the objects." if facts.recall_any < 0.5 else "It misses objects.",
        f"{_recalls(facts)}.",
        advice,
    )


def _misnames(facts: Facts, naming: Naming, severity: float) -> Finding:
    names = facts.class_names
    mistakes = sorted(
        (-count, true, said)
        for true, row in enumerate(facts.names)
        for said, count in enumerate(row)
        if count and true != said
    )
    what = listed((f"{quoted(names[t])} as {quoted(names[s])} {-n}" for n, t, s in mistakes), 3)
    return Finding(
        severity,
        "It finds objects but gives them wrong names.",
        f"Of {number(naming.named, 'object')} found, {naming.right} have their own name"
        f"{'; most often wrong: ' + what if what else ''}.",
        "Train longer (--epochs 80), and look at these classes' labels.",
    )


def _nothing_to_find(facts: Facts) -> Finding:
    return Finding(
        1.0,
        "There are no objects in the validation images.",
        f"{number(facts.images, 'validation image')}, 0 objects, so no mAP can be measured; "
        f"{number(sum(facts.training_objects.values()), 'object')} in training.",
        "Label objects in the validation images, or hold out more with --validation-fraction 0.3.",
    )


def _nothing_stands_out(facts: Facts, naming: Naming) -> Finding:
    fit, t = facts.anchors, facts.threshold
    parts = [_recalls(facts)]
    if fit is not None:
        parts.append(f"{percent(fit.without_anchor)} of the boxes have no anchor")
    if t.recommended is not None:
        parts.append(f"F1 is {t.recommended_f1:.2f} at threshold {t.recommended:.2f}")
    few = facts.total_objects < ENOUGH_OBJECTS
    only = f", but only {number(facts.total_objects, 'object')}: too few to tell"
    return Finding(
        0.0,
        f"Nothing stands out{only if few else ''}.",
        f"{'; '.join(parts)}.",
        "More labelled images and longer training (--epochs 80) are what usually helps.",
    )


def _recalls(facts: Facts) -> str:
    return (
        f"{percent(facts.recall_any)} of {number(facts.total_objects, 'object')} have a detection "
        f"in their place, {percent(facts.recall_named)} one of their name"
    )


def _at_most(finding: Finding, severity: float) -> Finding:
    return dataclasses.replace(finding, severity=max(0.0, min(finding.severity, severity)))


def _sum(findings: list[Finding]) -> float:
    return sum(f.severity for f in findings)
