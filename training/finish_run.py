"""What a training run leaves when it ends: curves, detections, the report, and the last lines."""

from __future__ import annotations

import math
import shlex
from pathlib import Path

import pytorch_lightning as pl

from data.dataset import DataSplits
from evaluation.metrics.coco import show
from evaluation.reporter import measure, report_folder, say_findings, say_threshold, write_report
from evaluation.run_pictures import save_curves, save_detections
from model.checkpoint import load_checkpoint
from training.lost_images import LostImages
from utils.config import Config
from utils.console import say
from utils.hardware import Machine
from utils.lightning_setup import readable_failures
from utils.run_folder import BEST, CURVES, DETECTIONS, LAST, METRICS_FILE, REPORT

# mAP50 on its own training images from which --overfit calls the images learned, or half learned.
LEARNED, HALF_LEARNED = 0.9, 0.3
ENOUGH_STEPS = 300  # before, a detector from random weights has hardly left its warm-up
GOOD_ENOUGH = 0.5  # mAP50 below it is explained at the end of a run


def report_run(
    config: Config, run: Path, splits: DataSplits, machine: Machine, guard: list[pl.Callback]
) -> None:
    """Write them for the best epoch of ``run``, measured on the validation images."""
    best = load_checkpoint(run / BEST)
    save_curves(run / METRICS_FILE, run / CURVES)
    module = measure(
        best,
        splits.validation,
        machine,
        batch_size=config.batch_size,
        workers=config.workers,
        callbacks=[*guard, LostImages()],
    )
    folder = report_folder(best.path)
    with readable_failures():
        evaluation, findings = write_report(
            folder, best, splits, module, machine, config.score_threshold
        )
        save_detections(module.results, splits.validation, run / DETECTIONS, evaluation.threshold)
    metrics = evaluation.metrics
    say(
        "best",
        f"epoch {best.epoch}: mAP {show(metrics.map)} ({evaluation.interval}), "
        f"mAP50 {show(metrics.map_50)}, mAP75 {show(metrics.map_75)}",
    )
    say_threshold(evaluation, best)
    if config.overfit:
        steps = best.training.get("planned_steps", math.inf)
        say("overfit", overfit_verdict(metrics.map_50, len(splits.train), steps))
    if config.overfit or not metrics.map_50 >= GOOD_ENOUGH:
        say_findings(findings)
    say("saved", f"{run / BEST}, {LAST}, {CURVES}, {DETECTIONS}")
    say("report", str(folder / REPORT))
    say(
        "next",
        f"python main.py -l {shlex.quote(str(run / BEST))} --predict FOLDER_OF_YOUR_PICTURES",
    )


def overfit_verdict(map_50: float, images: int, steps: float) -> str:
    """What ``--overfit`` shows: a pipeline that cannot learn its own few images is broken.

    steps: of the training; after a few nothing can be told.
    """
    if math.isnan(map_50):
        return (
            f"nothing can be told: the {images} images show no object that counts; give a larger "
            "--overfit"
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
