"""What is known of a detector and its data when its mAP is to be explained: plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from evaluation.diagnosis.anchor_fit import AnchorFit
from evaluation.diagnosis.class_confusion import ClassConfusion, class_confusion


@dataclass(frozen=True)
class ThresholdFacts:
    """The score threshold in use, beside the one with the highest F1 (None: nothing is correct).

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
    """Numbers of parameters, in all and in the backbone without pyramid and head.

    norms: batch norms of the backbone. untrained: the statistics or the factors of all of them
    still have their initial values (mean 0, variance 1; weight 1, bias 0), so no training has
    changed them. norms_frozen: whether they are frozen. pretrained: whether weights were claimed
    for the backbone.
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
    """What was measured, on the validation images unless stated otherwise.

    images: of validation. objects: of each class, difficult ones left out. training_objects: of
    each class, in all training images. recall_any: share of the objects on which a detection of any
    class lies with IoU 0.5, among the 100 highest-scoring of an image from score 0.05 on.
    recall_named: the same with detections of the object's class. Both are nan without objects.
    names: K rows of K counts, annotated class by predicted class, of the highest-scoring detection
    on each object. detections: how many have a score of at least 0.05. highest_score: nan without
    a detection. anchors: of training boxes, None without any. training: what the run had done by
    then, each value absent where unknown: ``learning_rate`` (its peak), ``steps``,
    ``planned_steps``, ``warmup_steps``, ``images`` (of the training split), ``loss`` (of the last
    epoch; while it trains, of the last step).
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

    @cached_property
    def confusion(self) -> ClassConfusion:
        return class_confusion(self.names)

    @property
    def not_detected(self) -> float:
        """Share of the objects without a detection on them."""
        return 1 - self.recall_any

    @property
    def misnamed(self) -> float:
        """Share of the objects whose highest-scoring detection has a wrong name."""
        wrong = self.confusion.detected - self.confusion.correct
        return min(wrong / self.total_objects, self.recall_any)

    @property
    def lost(self) -> float:
        """Share of the objects that are not detected or misnamed."""
        return self.not_detected + self.misnamed
