"""The facts behind a diagnosis, as text to be read beside it."""

from __future__ import annotations

from collections.abc import Mapping

from evaluation.diagnosis.anchor_fit import AnchorFit
from evaluation.diagnosis.facts import Facts
from evaluation.diagnosis.finding import number, percent
from evaluation.metrics.coco import show
from utils.text import listed

CLASSES_LISTED = 30


def facts_as_text(facts: Facts) -> list[tuple[str, str]]:
    """(what, its figures): anchors first, then detections, data and training."""
    fit, t = facts.anchors, facts.threshold
    return [
        ("anchors", _anchors(fit) if fit else "no training box to measure"),
        *(_levels(fit) if fit else ()),
        (
            "recall",
            f"{show(facts.recall_any)} of the objects by detections of any class, "
            f"{show(facts.recall_named)} by those of the correct class, from score 0.05 on",
        ),
        (
            "detections",
            f"{facts.detections} from score 0.05 on, {t.passing} from the threshold in use, "
            f"{t.value:.2f}; the highest score is {show(facts.highest_score)}",
        ),
        ("training labels", _histogram(facts.training_objects)),
        ("validation labels", _histogram(facts.objects)),
        ("training", _training(facts.training)),
        ("parameters", _parameters(facts)),
    ]


def _anchors(fit: AnchorFit) -> str:
    kinds = (
        ("smaller", fit.too_small),
        ("larger", fit.too_large),
        ("of another shape", fit.odd_shape),
    )
    split = ", ".join(f"{percent(share)} {kind}" for kind, share in kinds if share > 0)
    return (
        f"{percent(fit.without_anchor)} of {number(fit.boxes, 'training box', 'es')} have no "
        f"anchor of IoU 0.5{f' ({split})' if split else ''}; the median box has a side of "
        f"{fit.median_side:.0f} px as the model sees it, anchors have {fit.smallest_side:.0f} to "
        f"{fit.largest_side:.0f}"
    )


def _levels(fit: AnchorFit) -> list[tuple[str, str]]:
    return [
        (
            f"level {position}, stride {level.stride}",
            f"anchors of {', '.join(f'{side:.0f}' for side in level.sides)} px: "
            f"{percent(level.without_anchor)} of the boxes have none of IoU 0.5 here, "
            f"{percent(level.best_here)} have their best one here",
        )
        for position, level in enumerate(fit.levels, start=1)
    ]


def _histogram(counts: Mapping[str, int]) -> str:
    classes = listed((f"{name} {count}" for name, count in counts.items()), CLASSES_LISTED)
    return f"{number(sum(counts.values()), 'object')}: {classes}"


def _training(training: Mapping[str, float]) -> str:
    texts = {
        "learning_rate": "learning rate up to {:.2g}",
        "steps": "{:.0f} steps done",
        "planned_steps": "{:.0f} planned",
        "warmup_steps": "warm-up of {:.0f}",
        "images": "{:.0f} images per epoch",
        "loss": "loss {:.3f}",
    }
    known = [text.format(training[key]) for key, text in texts.items() if key in training]
    return ", ".join(known) or "unknown: the checkpoint does not contain it"


def _parameters(facts: Facts) -> str:
    p = facts.parameters
    origin = "pretrained weights" if p.pretrained else "random weights"
    norms = ", batch norm frozen" if p.norms_frozen else ""
    return (
        f"{p.trainable / 1e6:.2f} of {p.total / 1e6:.2f} M train; of the backbone, which began "
        f"with {origin}, {p.backbone_trainable / 1e6:.2f} of {p.backbone / 1e6:.2f} M{norms}"
    )
