"""The report on a detector: one page, its figures, and ``metrics.json``."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

from PIL import Image

from data.dataset import Dataset, DataSplits
from evaluation.detector_metrics import DetectorMetrics, without_nan
from evaluation.diagnosis.facts_text import facts_as_text
from evaluation.diagnosis.finding import Finding
from evaluation.diagnosis.gather import gather_facts
from evaluation.diagnosis.rank import diagnose
from evaluation.figures import draw_figures
from evaluation.galleries import galleries
from evaluation.page import Contents, render
from evaluation.run_pictures import save_curves, save_detections
from model.checkpoint import Checkpoint
from model.efficient_retinanet import describe_parameters
from model.lightning_trainer import DetectorModule
from utils.console import say
from utils.errors import UserError
from utils.hardware import Machine
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


def report_folder(checkpoint: Path) -> Path:
    """Where a report goes unless the user gives a folder: beside its checkpoint."""
    return checkpoint.parent / f"monitor-{checkpoint.stem}"


def write_report(
    folder: Path,
    checkpoint: Checkpoint,
    splits: DataSplits,
    module: DetectorModule,
    metrics: DetectorMetrics,
    machine: Machine,
) -> list[Finding]:
    """Write everything into ``folder`` and return why the mAP is what it is.

    module: as ``measure`` returned it for the validation images. metrics: of its evaluation.
    """
    facts = gather_facts(
        module.model,
        splits,
        metrics.evaluation,
        metrics.points,
        metrics.threshold,
        pretrained=checkpoint.description.pretrained,
        training=checkpoint.training,
    )
    findings = diagnose(facts)

    make_folder(folder)
    pngs = draw_figures(metrics)
    for name, png in pngs.items():
        (folder / f"{name}.png").write_bytes(png)
    picture = partial(_picture, splits.validation)
    pngs |= _curves(checkpoint.path.parent / METRICS_FILE, folder / CURVES)
    page = Contents(
        title=f"{checkpoint.description.model_name}, epoch {checkpoint.epoch}",
        about=_about(checkpoint, splits, module, machine),
        metrics=metrics,
        figures=pngs,
        galleries=galleries(metrics.outcomes, metrics.class_names, picture),
        findings=findings,
        facts=facts_as_text(facts),
        train_objects=splits.train.label_counts(),
    )
    write_text(render(page), folder / REPORT)
    save_detections(
        metrics.evaluation.results, splits.validation, folder / DETECTIONS, metrics.threshold
    )
    numbers = {
        "checkpoint": str(checkpoint.path),
        "epoch": checkpoint.epoch,
        **metrics.as_plain(),
        "diagnosis": [dataclasses.asdict(finding) for finding in findings],
        "measured": dataclasses.asdict(facts),
        "images_per_second": module.images_per_second,
    }
    write_json(without_nan(numbers), folder / MONITOR_METRICS)
    return findings


def _curves(epochs: Path, path: Path) -> dict[str, bytes]:
    """The PNG of a run's curves, also written to ``path``. epochs: its ``metrics.csv``, if any."""
    if not epochs.is_file():
        return {}
    try:
        save_curves(epochs, path)
    except (UserError, KeyError, ValueError, TypeError, OverflowError):
        say("note", f"{epochs} is not what a run writes: the report shows no curves")
        return {}
    return {"curves": path.read_bytes()}


def _picture(dataset: Dataset, index: int) -> tuple[str, Image.Image]:
    """Name and image of a row; grey, of its size, where it can no longer be read."""
    sample = dataset.readable_sample(index)
    size = dataset.annotations[index].size or (64, 64)
    image = Image.new("RGB", size, "grey") if sample is None else sample.image
    return "/".join(dataset.path(index).parts[-2:]), image


def _about(
    checkpoint: Checkpoint, splits: DataSplits, module: DetectorModule, machine: Machine
) -> list[tuple[str, str]]:
    description = checkpoint.description
    sizes = f"{len(splits.train)} training and {len(splits.validation)} validation images"
    source = str(description.data.get("path") or "drawn by the program")
    about = [
        ("checkpoint", str(checkpoint.path)),
        ("model", f"{description.model_name}: {describe_parameters(module.model)}"),
        ("input", f"{description.image_size} px, anchors scaled by {description.anchor_scale:g}"),
        ("backbone", f"began with {description.backbone_origin or 'unknown weights'}"),
        ("trained on", source),
        ("data", f"{splits.layout}: {sizes}"),
        ("speed", f"{module.images_per_second:.1f} images per second on {machine}"),
    ]
    training = checkpoint.training
    if {"steps", "images", "learning_rate"} <= training.keys():
        text = (
            f"{training['steps']:.0f} steps, learning rate up to {training['learning_rate']:g}, "
            f"{training['images']:.0f} images per epoch"
        )
        about.append(("training", text))
    return about
