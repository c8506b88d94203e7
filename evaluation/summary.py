"""Everything that is measured of a detector on one set of images, in one value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.metrics.bootstrap import Interval, mean_ap_interval
from evaluation.metrics.coco import SUMMARY_ROWS, CocoEvaluation, CocoMetrics
from evaluation.metrics.operating_point import OperatingPoints, Rates, score_threshold
from evaluation.metrics.outcomes import Outcome, confusion_matrix, outcomes
from evaluation.metrics.results import ImageResult
from evaluation.metrics.voc import VocMetrics, voc_metrics

# The original project threw away what scored lower before it measured.
ORIGINAL_THRESHOLD = 0.5


@dataclass(frozen=True)
class Evaluation:
    """The numbers of one detector on one set of images; fractions 0..1, nan for what is absent.

    interval: of the mAP, over images. original: COCO's numbers with detections under 0.5 thrown
    away. recommended: the score threshold of the highest F1, or None. threshold: the one that
    ``rates``, ``outcomes`` and ``confusion`` are at. confusion: int (K + 1, K + 1), rows true,
    columns detected, the last of each background.
    """

    coco: CocoEvaluation
    interval: Interval
    original: CocoMetrics
    voc: VocMetrics
    points: OperatingPoints
    recommended: float | None
    threshold: float
    rates: dict[str, Rates]
    overall: Rates
    outcomes: list[Outcome]
    confusion: np.ndarray

    @property
    def metrics(self) -> CocoMetrics:
        return self.coco.metrics

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.coco.class_names

    def as_plain(self) -> dict[str, Any]:
        """For ``metrics.json``: None is what cannot be measured."""
        names = (*self.class_names, "background")
        return {
            "images": len(self.coco.results),
            "objects": sum(self.coco.objects.values()),
            "coco": {
                f"{kind} IoU={iou} area={area} maxDets={detections}": or_none(value)
                for (kind, iou, area, detections), value in zip(
                    SUMMARY_ROWS, self.metrics.summary, strict=True
                )
            },
            "mAP_interval": {
                "low": or_none(self.interval.low),
                "high": or_none(self.interval.high),
                "confidence": self.interval.confidence,
                "resamples": self.interval.resamples,
            },
            "mAP_of_detections_from_0.5": or_none(self.original.map),
            "mAP50_of_detections_from_0.5": or_none(self.original.map_50),
            "voc": {
                "AP50_2007": or_none(self.voc.mean_2007),
                "AP50_2010": or_none(self.voc.mean_2010),
            },
            "recommended_score_threshold": self.recommended,
            "at_threshold": {"threshold": self.threshold, **_plain_rates(self.overall)},
            "classes": {name: self._plain_class(name) for name in self.class_names},
            "confusion": {
                "names": list(names),
                "rows_true_columns_detected": self.confusion.tolist(),
            },
        }

    def _plain_class(self, name: str) -> dict[str, Any]:
        values = zip(("mAP", "mAP50", "mAP75"), self.metrics.class_ap[name], strict=True)
        return {
            "objects": self.metrics.objects[name],
            **{key: or_none(value) for key, value in values},
            "AP50_2007": or_none(self.voc.ap_2007[name]),
            "AP50_2010": or_none(self.voc.ap_2010[name]),
            **_plain_rates(self.rates[name]),
        }


def evaluate(
    results: Sequence[ImageResult],
    class_names: Sequence[str],
    asked_threshold: float | None = None,
) -> Evaluation:
    """Measure everything. asked_threshold: instead of the recommended one (and else of 0.5)."""
    return complete(CocoEvaluation(results, class_names), asked_threshold)


def complete(coco: CocoEvaluation, asked_threshold: float | None = None) -> Evaluation:
    """``evaluate`` for what was matched already; nothing is matched again."""
    points = OperatingPoints(coco)
    recommended = points.recommended()
    threshold = score_threshold(asked_threshold, recommended)
    judged = outcomes(coco, threshold)
    return Evaluation(
        coco=coco,
        interval=mean_ap_interval(coco),
        original=coco.metrics_above(ORIGINAL_THRESHOLD),
        voc=voc_metrics(coco.results, coco.class_names),
        points=points,
        recommended=recommended,
        threshold=threshold,
        rates=points.classes(threshold),
        overall=points.overall(threshold),
        outcomes=judged,
        confusion=confusion_matrix(judged, len(coco.class_names)),
    )


def or_none(value: float) -> float | None:
    """JSON has no nan."""
    return None if math.isnan(value) else value


def without_nan(content: Any) -> Any:
    """Nested dicts, lists and tuples with None for nan."""
    if isinstance(content, dict):
        return {key: without_nan(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [without_nan(value) for value in content]
    return or_none(content) if isinstance(content, float) else content


def _plain_rates(rates: Rates) -> dict[str, Any]:
    return {
        "precision": or_none(rates.precision),
        "recall": or_none(rates.recall),
        "F1": or_none(rates.f1),
        "true_positives": rates.true_positives,
        "false_positives": rates.false_positives,
    }
