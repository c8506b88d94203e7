"""Circumstances of a training that can lower the mAP, though no measurement proves that they did.

A severity of 1 stands for whatever the proven causes leave unexplained.
"""

from __future__ import annotations

from collections.abc import Iterator

from evaluation.diagnosis.facts import Facts
from evaluation.diagnosis.finding import MOST_LISTED, Finding, number, quoted
from utils.text import listed

FEW_STEPS = 300
WARMUP_STEPS = 100  # where the facts do not contain them
HIGH_RATE, LOW_RATE = 1e-2, 1e-5  # of AdamW
HIGH_LOSS = 5.0
RARE = 0.05  # of the objects of the most frequent class


def rare_classes(facts: Facts) -> Iterator[Finding]:
    counts = facts.training_objects
    most = max(counts.values(), default=0)
    rare = [
        (k, name)
        for k, name in enumerate(facts.class_names)
        if facts.objects[name] and 0 < counts.get(name, 0) < RARE * most
    ]
    if rare:
        lost = sum(facts.objects[name] - facts.names[k][k] for k, name in rare)
        what = listed((f"{quoted(name)} {counts[name]}" for _, name in rare), MOST_LISTED)
        yield Finding(
            lost / facts.total_objects,
            "Some classes are rare in training.",
            f"Training objects: {what}, but {most} of the most frequent class.",
            "Label more objects of the rare classes.",
        )


def learning_rate_and_loss(facts: Facts) -> Iterator[Finding]:
    rate, loss = facts.training.get("learning_rate"), facts.training.get("loss")
    if rate is not None and not LOW_RATE < rate < HIGH_RATE:
        and_loss = "" if loss is None else f", the loss is {loss:.3g}"
        yield Finding(
            1.0,
            f"The learning rate is very {'high' if rate >= HIGH_RATE else 'low'}.",
            f"Its peak is {rate:.1e}{and_loss}; the default is 1e-3.",
            "Train anew with --learning-rate 0.001.",
        )
    elif loss is not None and loss >= HIGH_LOSS:
        yield Finding(
            1.0,
            "The loss is very high: training diverges.",
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


def few_steps(facts: Facts) -> Iterator[Finding]:
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
    per_epoch = f" with {images:.0f} images per epoch" if images is not None else ""
    if planned >= FEW_STEPS:
        advice = f"Let it go on: {planned:.0f} steps are planned; look again after {FEW_STEPS}."
    else:
        advice = "Give more --epochs or a smaller --batch-size, so that it takes 1000 steps."
    yield Finding(
        1.0,
        "It has hardly been trained yet.",
        f"Training has done {steps:.0f}{of} steps{per_epoch}{in_warmup}.",
        advice,
    )
