"""Run a detector over a data set: images in, results out."""

from __future__ import annotations

from collections.abc import Sequence

import pytorch_lightning as pl
from torch.utils.data import DataLoader
from torchvision.models.detection import RetinaNet

from model.lightning_trainer import DetectorModule
from utils.hardware import Machine
from utils.lightning_setup import make_trainer, readable_failures


def measure(
    model: RetinaNet, loader: DataLoader, machine: Machine, callbacks: Sequence[pl.Callback] = ()
) -> DetectorModule:
    """Detect in all images of a ``make_loader``.

    The module's ``evaluation`` holds the results, matched, and its ``model`` the weights to look
    at, in evaluation mode.
    """
    class_names = loader.dataset.class_names  # type: ignore[attr-defined]
    module = DetectorModule(model, class_names, validation_loss=False)
    with readable_failures():
        make_trainer(machine, callbacks).validate(module, loader, verbose=False)
    return module
