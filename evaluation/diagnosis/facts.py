"""What is known of a detector and its data when its mAP is to be explained: plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from evaluation.diagnosis.anchor_coverage import AnchorFit


@dataclass(frozen=True)
class ThresholdFacts:
    """The score threshold in use, beside the one with the highest F1 (None: nothing is right).

    passing: detections at or above the one in use. Recall and F1 are fractions at IoU 0.5, nan
    where they cannot be measured; lowest_recall is that at score 0.05.
    """

    value: float
    passing: int
    recall: float
    f1: float
    lowest_recall: float
    recommended: float | None = None
    recommended_recall: float = 0.0
    recommended_f1: float = 0.0


@dataclass(frozen=True)
class ParameterFacts:
    """Numbers of parameters, in all and in the backbone, pyramid and head left out.

    norms: of the backbone's batch norms. untrained: the statistics or the factors of all of them
    are still as they were made (mean 0, variance 1; weight 1, bias 0), so no training has touched
    them. norms_frozen: whether they are frozen. pretrained: whether weights were claimed for the
    backbone.
    """

    total: int
    trainable: int
    backbone: int
    backbone_trainable: int
    norms: int
    untrained: bool
    norms_frozen: bool
    pretrained: bool


@dataclass(frozen=True)
class Facts:
    """What was measured, on the validation images unless it says otherwise.

    images: of validation. objects: of each class, difficult ones left out. training_objects: of
    each class, in all training images. recall_any: share of the objects with a detection of IoU 0.5
    in their place, whatever it calls them, among those of score 0.05 and the 100 surest of an
    image. recall_named: the same under the object's name. Both are nan without objects.
    names: K rows of K counts, true class by said class, of the surest detection in the place of
    each object. detections: of score 0.05. highest_score: nan without a detection. anchors: of
    training boxes, None without any. training: what the run had done by then, each value absent
    where unknown: ``learning_rate`` (its peak), ``steps``, ``planned_steps``, ``warmup_steps``,
    ``images`` (of the training split), ``loss`` (of the last epoch; while it trains, of the last
    step).
    """

    images: int
    objects: Mapping[str, int]
    training_objects: Mapping[str, int]
    recall_any: float
    recall_named: float
    names: tuple[tuple[int, ...], ...]
    detections: int
    highest_score: float
    threshold: ThresholdFacts
    anchors: AnchorFit | None
    parameters: ParameterFacts
    training: Mapping[str, float] = field(default_factory=dict)

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self.objects)

    @property
    def total_objects(self) -> int:
        return sum(self.objects.values())
