"""Measure a checkpoint and write its report: one page, its figures, and ``metrics.json``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
from PIL import Image

from data.dataset import Dataset, DataSplits
from data.loader import make_loader
from evaluation import figures
from evaluation.diagnosis.facts_text import measured
from evaluation.diagnosis.finding import Finding
from evaluation.diagnosis.gather import diagnosis_lines, examine
from evaluation.diagnosis.rank import diagnose
from evaluation.galleries import galleries
from evaluation.metrics.coco import show
from evaluation.page import Contents, render
from evaluation.run_pictures import save_curves, save_detections
from evaluation.summary import Evaluation, complete, or_none, without_nan
from model.checkpoint import Checkpoint
from model.efficient_retinanet import describe_parameters
from model.lightning_trainer import DetectorModule
from utils.console import is_terminal, say
from utils.errors import UserError
from utils.hardware import Machine
from utils.lightning_setup import progress_bars, readable_failures
from utils.run_folder import (
    CURVES,
    DETECTIONS,
    METRICS_FILE,
    MONITOR_METRICS,
    REPORT,
    make_folder,
    write_json,
    write_text,
)


def measure(
    checkpoint: Checkpoint,
    dataset: Dataset,
    machine: Machine,
    *,
    batch_size: int,
    workers: int,
    callbacks: Sequence[pl.Callback] = (),
) -> DetectorModule:
    """Run the checkpoint's detector over the data set; its ``results`` hold what came of it.

    The module's model has the weights to look at, in evaluation mode. callbacks: of the Trainer,
    besides its progress bar.
    """
    module = DetectorModule(
        checkpoint.build_model(), checkpoint.description.class_names, validation_loss=False
    )
    trainer = pl.Trainer(
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=is_terminal(),
        callbacks=[*progress_bars(), *callbacks],
        **machine.trainer_options(),
    )
    loader = make_loader(dataset, batch_size, workers=workers)
    with readable_failures():
        trainer.validate(module, loader, verbose=False)
    return module


def _picture(dataset: Dataset, index: int) -> Image.Image:
    """The image of a row; grey, of its size, where it can no longer be read."""
    sample = dataset.readable_sample(index)
    size = dataset.annotations[index].size or (64, 64)
    return Image.new("RGB", size, "grey") if sample is None else sample.image


def write_report(
    folder: Path,
    checkpoint: Checkpoint,
    splits: DataSplits,
    module: DetectorModule,
    machine: Machine,
    asked_threshold: float | None = None,
) -> tuple[Evaluation, list[Finding]]:
    """Write everything into ``folder`` and return what was measured and what it means.

    module: as ``measure`` returned it for the validation images. asked_threshold: the user's own,
    in place of the recommended one.
    """
    make_folder(folder)
    evaluation = complete(module.evaluation, asked_threshold)
    facts = examine(
        module.model,
        splits,
        module.results,
        checkpoint.threshold(asked_threshold),
        pretrained=checkpoint.description.frozen_batch_norm,
        training=checkpoint.training,
        evaluation=evaluation.coco,
    )
    findings = diagnose(facts)
    dataset = splits.validation
    contents = Contents(
        title=f"{checkpoint.description.model_name}, epoch {checkpoint.epoch}",
        about=_about(checkpoint, splits, module, machine),
        evaluation=evaluation,
        figures=_draw_figures(folder, evaluation, checkpoint.path.parent / METRICS_FILE),
        galleries=galleries(
            evaluation.outcomes,
            module.class_names,
            lambda i: ("/".join(dataset.path(i).parts[-2:]), _picture(dataset, i)),
        ),
        findings=findings,
        measured=measured(facts),
        train_objects=splits.train.label_counts(),
    )
    write_text(render(contents), folder / REPORT)
    save_detections(module.results, dataset, folder / DETECTIONS, evaluation.threshold)
    numbers = {
        "checkpoint": str(checkpoint.path),
        "epoch": checkpoint.epoch,
        **evaluation.as_plain(),
        "diagnosis": [dataclasses.asdict(finding) for finding in findings],
        "measured": without_nan(dataclasses.asdict(facts)),
        "images_per_second": or_none(module.images_per_second),
    }
    write_json(numbers, folder / MONITOR_METRICS)
    return evaluation, findings


def _draw_figures(folder: Path, evaluation: Evaluation, epochs: Path) -> dict[str, bytes]:
    """PNGs by name, also written into the folder. epochs: a run's ``metrics.csv``, if any."""
    pngs = {
        "precision_recall": figures.precision_recall(evaluation),
        "thresholds": figures.thresholds(evaluation),
        "confusion": figures.confusion(evaluation),
        "sizes": figures.sizes(evaluation),
    }
    for name, png in pngs.items():
        (folder / f"{name}.png").write_bytes(png)
    if epochs.is_file():
        try:
            save_curves(epochs, folder / CURVES)
        except (UserError, KeyError, ValueError, TypeError, OverflowError):
            say("note", f"{epochs} is not what a run writes: the report shows no curves")
        else:
            pngs["curves"] = (folder / CURVES).read_bytes()
    return pngs


def report_folder(checkpoint: Path) -> Path:
    """Where a report goes unless the user says otherwise: beside its checkpoint."""
    return checkpoint.parent / f"monitor-{checkpoint.stem}"


def say_threshold(evaluation: Evaluation, checkpoint: Checkpoint) -> None:
    """At which score to use the detector, and whether prediction will do so by itself."""
    best = evaluation.recommended
    if best is None:
        say("threshold", "none can be recommended: nothing was detected rightly")
        return
    rates = evaluation.points.overall(best)
    text = (
        f"{best:.2f} is recommended: precision {show(rates.precision)}, recall "
        f"{show(rates.recall)}, F1 {show(rates.f1)}"
    )
    own = checkpoint.threshold()
    if own == best:
        text += "; --predict takes it by itself"
    else:
        text += f"; --predict takes {own:.2f} unless --score-threshold {best:.2f} is given"
    say("threshold", text)


def say_findings(findings: Sequence[Finding]) -> None:
    for line in diagnosis_lines(findings):
        say("diagnosis", line)


def _about(
    checkpoint: Checkpoint, splits: DataSplits, module: DetectorModule, machine: Machine
) -> list[tuple[str, str]]:
    description = checkpoint.description
    sizes = f"{len(splits.train)} training and {len(splits.validation)} validation images"
    source = str(description.data.get("path") or "drawn by the program")
    facts = [
        ("checkpoint", str(checkpoint.path)),
        ("model", f"{description.model_name}: {describe_parameters(module.model)}"),
        ("input", f"{description.image_size} px, anchors scaled by {description.anchor_scale:g}"),
        ("trained on", source),
        ("data", f"{splits.layout}: {sizes}"),
        ("speed", f"{module.images_per_second:.1f} images a second on {machine}"),
    ]
    training = checkpoint.training
    if {"steps", "images", "learning_rate"} <= training.keys():
        text = (
            f"{training['steps']:.0f} steps, learning rate up to {training['learning_rate']:g}, "
            f"{training['images']:.0f} images an epoch"
        )
        facts.append(("training", text))
    return facts
