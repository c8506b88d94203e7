"""What the terminal shows of a report: tables, the threshold, and the findings."""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.detector_metrics import DetectorMetrics
from evaluation.diagnosis.finding import Finding
from evaluation.metrics.coco import SUMMARY_ROWS, show
from evaluation.metrics.operating_point import Rates
from model.checkpoint import Checkpoint
from utils.console import say, show_table


def say_metrics(metrics: DetectorMetrics) -> None:
    """COCO's summary, one row per class, and a line for each other number."""
    coco, voc, original = metrics.coco, metrics.voc, metrics.original
    rows = [
        (kind, iou, area, str(detections), show(value))
        for (kind, iou, area, detections), value in zip(SUMMARY_ROWS, coco.summary, strict=True)
    ]
    show_table("COCO summary", ("metric", "IoU", "area", "detections", "value"), rows)
    classes = [
        _row(name, coco.objects[name], coco.class_ap[name], metrics.rates[name])
        for name in metrics.class_names
    ]
    mean_ap = (coco.map, coco.map_50, coco.map_75)
    classes.append(_row("all", metrics.objects, mean_ap, metrics.overall))
    columns = ("class", "objects", "mAP", "mAP50", "mAP75", "precision", "recall", "F1")
    title = f"Classes (precision, recall and F1 at score {metrics.threshold:.2f})"
    show_table(title, columns, classes)
    say("mAP", f"{show(coco.map)}; {metrics.interval}")
    say(
        "VOC AP50", f"{show(voc.mean_2007)} by the 2007 rule, {show(voc.mean_2010)} by that of 2010"
    )
    say(
        "original",
        f"mAP {show(original.map)}, mAP50 {show(original.map_50)} without detections of a score "
        "below 0.5, as the original project counted",
    )


def _row(name: str, objects: int, ap: tuple[float, ...], rates: Rates) -> tuple[str, ...]:
    values = (*ap, rates.precision, rates.recall, rates.f1)
    return (name, str(objects), *map(show, values))


def say_threshold(metrics: DetectorMetrics, checkpoint: Checkpoint) -> None:
    """The score at which to use the detector, and whether prediction does so by itself."""
    best = metrics.recommended
    if best is None:
        say("threshold", "none can be recommended: no object was detected correctly")
        return
    rates = metrics.points.overall(best)
    predicting = checkpoint.threshold()
    by_itself = (
        "--predict takes it by itself"
        if predicting == best
        else f"--predict takes {predicting:.2f} unless --score-threshold {best:.2f} is given"
    )
    say(
        "threshold",
        f"{best:.2f} is recommended: precision {show(rates.precision)}, recall "
        f"{show(rates.recall)}, F1 {show(rates.f1)}; {by_itself}",
    )


def say_findings(findings: Sequence[Finding]) -> None:
    for line in finding_lines(findings):
        say("diagnosis", line)


def finding_lines(findings: Sequence[Finding]) -> list[str]:
    """One line each, numbered. Names of classes in them are untrusted text."""
    return [
        f"{rank}. {finding.title} {finding.evidence} {finding.advice}"
        for rank, finding in enumerate(findings, start=1)
    ]
