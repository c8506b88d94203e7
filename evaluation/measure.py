"""Run a detector over a data set: images in, results out."""

from __future__ import annotations

from collections.abc import Sequence

import pytorch_lightning as pl
from torchvision.models.detection import RetinaNet

from data.dataset import Dataset
from data.loader import make_loader
from model.lightning_trainer import DetectorModule
from utils.console import is_terminal
from utils.hardware import Machine
from utils.lightning_setup import progress_bars, readable_failures


def measure(
    model: RetinaNet,
    dataset: Dataset,
    machine: Machine,
    *,
    batch_size: int,
    workers: int,
    callbacks: Sequence[pl.Callback] = (),
) -> DetectorModule:
    """Detect in all images; the ``evaluation`` of the module holds the results, matched.

    The module's ``model`` has the weights to look at, in evaluation mode. callbacks: of the
    Trainer, besides its progress bar.
    """
    module = DetectorModule(model, dataset.class_names, validation_loss=False)
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
