"""Crop pre-training of a model's backbone, before the detector trains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
from torchvision.models.detection import RetinaNet

from data.crops import crop_objects, typical_side
from data.dataset import Dataset
from evaluation.metrics.coco import show
from model.training.crop_pretraining import CropClassifier, crop_loader
from utils.console import progress_bar, say
from utils.hardware import Machine
from utils.lightning_setup import make_trainer, readable_failures
from utils.options import Budget
from utils.run_folder import write_json

REPORT = "crop_pretraining.json"
SIDES = (64, 128)  # pixels of the window that the classifier sees
HELD_OUT = 0.1  # share of the images


def pretrain_on_crops(
    model: RetinaNet,
    dataset: Dataset,
    budget: Budget,
    run: Path,
    machine: Machine,
    callbacks: Sequence[pl.Callback],
    seed: int,
    quarter_turns: bool,
) -> None:
    """Teach the backbone to classify the objects' crops, at about the size the detector sees.

    Trains ``model`` in place, prints the held-out accuracy and writes it into the run's folder.
    quarter_turns: whether the detector's images are rotated; crops are then rotated by any angle,
    else by a few degrees.
    """
    if budget.steps == 0 or not dataset.label_counts().total():
        return
    side = _window_side(model, dataset)
    with progress_bar("cutting") as progress:
        crops = crop_objects(dataset, round(1.5 * side), seed=seed, progress=progress)
    train, held_out = crops.split(HELD_OUT, seed)
    say(
        "crops",
        f"the backbone first learns {len(train)} crops of {side} px for {budget}; "
        f"{len(held_out)} are held out",
    )
    classifier = CropClassifier(
        model.backbone.body,
        len(dataset.class_names) + 1,
        side,
        budget,
        mean=model.transform.image_mean,
        std=model.transform.image_std,
        max_rotation=180.0 if quarter_turns else 20.0,
    )
    trainer = make_trainer(
        machine, callbacks, max_epochs=1, max_steps=budget.steps or -1, gradient_clip_val=10.0
    )
    with readable_failures():
        trainer.fit(classifier, crop_loader(train.images, train.labels, seed))
    accuracy = classifier.to(machine.device).accuracy(held_out.images, held_out.labels)
    say(
        "crops",
        f"{classifier.steps_done} steps in {classifier.seconds / 60:.1f} min; "
        f"{show(accuracy)} of the {len(held_out)} held-out crops named correctly",
    )
    report = {
        "crops": len(train),
        "held_out_crops": len(held_out),
        "held_out_accuracy": None if math.isnan(accuracy) else accuracy,
        "side": side,
        "steps": classifier.steps_done,
        "minutes": classifier.seconds / 60,
    }
    write_json(report, run / REPORT)


def _window_side(model: RetinaNet, dataset: Dataset) -> int:
    """Pixels: a multiple of 32, somewhat larger than a typical object as the detector sees it."""
    smallest, largest = SIDES
    typical = typical_side(dataset, model.transform.max_size)
    return min(largest, max(smallest, 32 * round(1.3 * typical / 32)))
