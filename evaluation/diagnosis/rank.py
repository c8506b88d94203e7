"""Why a detector is as bad as it is: ranked findings in plain words, from measured facts."""

from __future__ import annotations

import dataclasses

from evaluation.diagnosis.causes import (
    frozen_backbone,
    missing_classes,
    unfit_anchors,
    unfit_threshold,
    wrong_labels,
)
from evaluation.diagnosis.circumstances import few_steps, learning_rate_and_loss, rare_classes
from evaluation.diagnosis.facts import Facts
from evaluation.diagnosis.finding import Finding
from evaluation.diagnosis.symptoms import nothing_stands_out, nothing_to_measure, symptoms

NOTABLE = 0.1  # findings of a lower severity are left out


def diagnose(facts: Facts) -> list[Finding]:
    """What loses the objects, the worst first; at least one finding.

    Proven causes come first; circumstances that could be a cause, and then what can only be
    described, share what the causes leave unexplained.
    """
    if not facts.total_objects:
        return [nothing_to_measure(facts)]
    frozen, missing = list(frozen_backbone(facts)), list(missing_classes(facts))
    causes = [*frozen, *missing, *unfit_anchors(facts)]
    # A backbone that has learned nothing confuses the names, whatever the labels are.
    not_by_backbone = facts.lost - sum(f.severity for f in frozen)
    causes += [_at_most(f, not_by_backbone) for f in wrong_labels(facts)]
    rest = max(0.0, facts.lost - sum(f.severity for f in causes))
    circumstances = [
        _at_most(f, rest)
        for f in (*rare_classes(facts), *learning_rate_and_loss(facts), *few_steps(facts))
    ]
    rest -= max((f.severity for f in circumstances), default=0.0)
    findings = [*causes, *unfit_threshold(facts), *circumstances, *symptoms(facts, rest)]
    # A class that cannot be learned is mentioned however rare it is.
    notable = [f for f in findings if f.severity >= NOTABLE or (f in missing and f.severity > 0)]
    # Sorting keeps the order of equals: a cause stays before what may follow from it.
    return sorted(notable, key=lambda f: -f.severity) or [nothing_stands_out(facts)]


def _at_most(finding: Finding, severity: float) -> Finding:
    return dataclasses.replace(finding, severity=max(0.0, min(finding.severity, severity)))
