"""All numbers of one detector on one set of images, in one value."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from evaluation.metrics.bootstrap import Interval, mean_ap_interval
from evaluation.metrics.coco import SUMMARY_ROWS, CocoEvaluation, CocoMetrics
from evaluation.metrics.operating_point import OperatingPoints, Rates
from evaluation.metrics.outcomes import Outcome, confusion_matrix, outcomes
from evaluation.metrics.voc import VocMetrics, voc_metrics

# The original project removed detections of lower scores before it measured.
ORIGINAL_THRESHOLD = 0.5


@dataclass(frozen=True)
class DetectorMetrics:
    """Fractions 0..1, nan where something cannot be measured.

    evaluation: the results, matched. coco: its numbers. interval: of the mAP, over images.
    original: COCO's numbers without detections of a score below 0.5. recommended: the score
    threshold of the highest F1, or None. threshold: the one in use, at which ``rates`` (of each
    class), ``overall``, ``outcomes`` and ``confusion`` are. confusion: int (K + 1, K + 1), rows
    annotated, columns predicted, the last of each background.
    """

    evaluation: CocoEvaluation
    coco: CocoMetrics
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
    def class_names(self) -> tuple[str, ...]:
        return self.evaluation.class_names

    @property
    def images(self) -> int:
        return len(self.evaluation.results)

    @property
    def objects(self) -> int:
        """Difficult ones left out."""
        return sum(self.evaluation.objects.values())

    def as_plain(self) -> dict[str, Any]:
        """For ``metrics.json``: None is what cannot be measured."""
        rows = zip(SUMMARY_ROWS, self.coco.summary, strict=True)
        content = {
            "images": self.images,
            "objects": self.objects,
            "coco": {
                f"{kind} IoU={iou} area={area} maxDets={detections}": value
                for (kind, iou, area, detections), value in rows
            },
            "mAP_interval": asdict(self.interval),
            "mAP_of_detections_from_0.5": self.original.map,
            "mAP50_of_detections_from_0.5": self.original.map_50,
            "voc": {"AP50_2007": self.voc.mean_2007, "AP50_2010": self.voc.mean_2010},
            "recommended_score_threshold": self.recommended,
            "at_threshold": {"threshold": self.threshold, **_plain_rates(self.overall)},
            "classes": {name: self._plain_class(name) for name in self.class_names},
            "confusion": {
                "names": [*self.class_names, "background"],
                "rows_true_columns_detected": self.confusion.tolist(),
            },
        }
        return without_nan(content)

    def _plain_class(self, name: str) -> dict[str, Any]:
        ap = zip(("mAP", "mAP50", "mAP75"), self.coco.class_ap[name], strict=True)
        return {
            "objects": self.coco.objects[name],
            **dict(ap),
            "AP50_2007": self.voc.ap_2007[name],
            "AP50_2010": self.voc.ap_2010[name],
            **_plain_rates(self.rates[name]),
        }


def detector_metrics(
    evaluation: CocoEvaluation, threshold: float, coco: CocoMetrics | None = None
) -> DetectorMetrics:
    """Compute all of them; nothing is matched again.

    threshold: the score threshold in use. coco: in place of the evaluation's own numbers.
    """
    points = OperatingPoints(evaluation)
    judged = outcomes(evaluation, threshold)
    return DetectorMetrics(
        evaluation=evaluation,
        coco=coco or evaluation.metrics,
        interval=mean_ap_interval(evaluation),
        original=evaluation.metrics_above(ORIGINAL_THRESHOLD),
        voc=voc_metrics(evaluation.results, evaluation.class_names),
        points=points,
        recommended=points.recommended(),
        threshold=threshold,
        rates=points.classes(threshold),
        overall=points.overall(threshold),
        outcomes=judged,
        confusion=confusion_matrix(judged, len(evaluation.class_names)),
    )


def without_nan(content: Any) -> Any:
    """Nested dicts, lists and tuples with None for nan, which JSON does not have."""
    if isinstance(content, dict):
        return {key: without_nan(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [without_nan(value) for value in content]
    return None if isinstance(content, float) and math.isnan(content) else content


def _plain_rates(rates: Rates) -> dict[str, Any]:
    shares = {"precision": rates.precision, "recall": rates.recall, "F1": rates.f1}
    counts = {name: getattr(rates, name) for name in ("true_positives", "false_positives")}
    return {**shares, **counts}
