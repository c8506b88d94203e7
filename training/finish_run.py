"""What a training run leaves when it ends: curves, detections, the report, and the last lines."""

from __future__ import annotations

import math
import shlex
import shutil
from pathlib import Path

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from data.dataset import DataSplits
from evaluation.console_report import say_findings, say_threshold
from evaluation.detector_metrics import detector_metrics
from evaluation.measure import measure
from evaluation.metrics.coco import show
from evaluation.run_pictures import save_curves
from evaluation.write_report import report_folder, write_report
from model.checkpoint import load_checkpoint
from training.lost_images import LostImages
from utils.console import say
from utils.hardware import Machine
from utils.lightning_setup import readable_failures
from utils.run_folder import BEST, CURVES, DETECTIONS, LAST, METRICS_FILE, REPORT

# mAP50 on its own training images from which --overfit calls the images learned, or half learned.
LEARNED, HALF_LEARNED = 0.9, 0.3
ENOUGH_STEPS = 300  # before, a detector from random weights has hardly left its warm-up
GOOD_ENOUGH = 0.5  # an mAP50 below is explained at the end of a run


def finish_run(
    run: Path,
    splits: DataSplits,
    validation: DataLoader,
    machine: Machine,
    guard: list[pl.Callback],
    score_threshold: float | None,
    *,
    overfit: bool,
) -> None:
    """Measure the best epoch of ``run`` on the validation images and write its report.

    validation: the loader of those images. score_threshold: the requested one, in place of the
    recommended. overfit: whether the training was to learn its few images by heart.
    """
    best = load_checkpoint(run / BEST)
    save_curves(run / METRICS_FILE, run / CURVES)
    module = measure(best.build_model(), validation, machine, [*guard, LostImages()])
    folder = report_folder(best.path)
    with readable_failures():
        metrics = detector_metrics(module.evaluation, best.threshold(score_threshold))
        findings = write_report(folder, best, splits, module, metrics, machine)
    if (folder / DETECTIONS).is_file():
        shutil.copyfile(folder / DETECTIONS, run / DETECTIONS)
    coco = metrics.coco
    say(
        "best",
        f"epoch {best.epoch}: mAP {show(coco.map)} ({metrics.interval}), "
        f"mAP50 {show(coco.map_50)}, mAP75 {show(coco.map_75)}",
    )
    say_threshold(metrics, best)
    if overfit:
        steps = best.training.get("planned_steps", math.inf)
        say("overfit", overfit_verdict(coco.map_50, len(splits.train), steps))
    if overfit or not coco.map_50 >= GOOD_ENOUGH:
        say_findings(findings)
    say("saved", f"{run / BEST}, {LAST}, {CURVES}, {DETECTIONS}")
    say("report", str(folder / REPORT))
    say(
        "next",
        f"python main.py -l {shlex.quote(str(run / BEST))} --predict FOLDER_OF_YOUR_PICTURES",
    )


def overfit_verdict(map_50: float, images: int, steps: float) -> str:
    """What ``--overfit`` shows: a pipeline that cannot learn its own few images is broken.

    steps: of the training; after a few there is no verdict.
    """
    if math.isnan(map_50):
        return (
            f"no verdict: the {images} images show no object that counts; give a larger --overfit"
        )
    measured = f"mAP50 {show(map_50)} on the {images} images it was trained on"
    if map_50 >= LEARNED:
        return (
            f"the pipeline can learn: {measured}. A low mAP elsewhere is a matter of data or time"
        )
    if map_50 >= HALF_LEARNED:
        return f"the pipeline learns, but is not there yet: {measured}; give more --epochs"
    if steps < ENOUGH_STEPS:
        return f"too short to tell: {measured} after {steps:.0f} steps; give more --epochs"
    return (
        f"the pipeline does not learn: {measured}; look at the diagnosis and at {DETECTIONS}, then "
        "at the labels"
    )
