"""What a run writes after each epoch: a line, ``metrics.csv`` and ``best.pth``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from evaluation.metrics.coco import show
from model.checkpoint import DetectorDescription, write_whole
from model.lightning_trainer import DetectorModule
from utils.console import say
from utils.run_folder import BEST, METRICS_FILE, read_metrics, write_metrics

VALIDATION = ("val_loss", "mAP", "mAP50", "mAP75")


class RunRecorder(pl.Callback):
    """After each epoch: one line, a row of ``metrics.csv``, and ``best.pth`` when mAP rose.

    folder: the run's. Without a mAP (no object in the validation images) the last epoch counts as
    the best. A resumed run keeps the rows of the epochs before.
    """

    def __init__(self, folder: Path, description: DetectorDescription) -> None:
        self.folder = folder
        self.description = description
        self.rows: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {}
        self._sums: dict[str, float] = {}
        self._images = 0
        self._start = self._train_seconds = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"best": dict(self.best)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = dict(state_dict["best"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        known = read_metrics(self.folder / METRICS_FILE)
        past = (row for row in known if row["epoch"] <= trainer.current_epoch)
        self.rows = [{**row, "epoch": int(row["epoch"])} for row in past]
        # Lightning calls no on_train_epoch_start for the first epoch after a resume.
        self._begin_epoch(trainer)
        if not (self.folder / BEST).is_file():
            self.best = {}

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin_epoch(trainer)

    def _begin_epoch(self, trainer: pl.Trainer) -> None:
        if trainer.current_epoch + 1 == trainer.max_epochs:
            # The last epoch is often the best, and validated regardless of --val-every.
            trainer.check_val_every_n_epoch = 1
        self._sums, self._images = {}, 0
        self._start, self._train_seconds = time.monotonic(), 0.0

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        size = len(batch[0])
        self._images += size
        for name in ("loss", "loss_classification", "loss_bbox_regression"):
            value: Tensor = trainer.callback_metrics[name]
            self._sums[name] = self._sums.get(name, 0.0) + float(value) * size

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._train_seconds = time.monotonic() - self._start

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, DetectorModule)
        row: dict[str, Any] = {"epoch": trainer.current_epoch + 1}
        row |= {name: total / self._images for name, total in self._sums.items()}
        validated = pl_module.metrics is not None
        if validated:
            row |= {name: float(trainer.callback_metrics[name]) for name in VALIDATION}
        row["learning_rate"] = float(trainer.callback_metrics["learning_rate"])
        seconds = self._train_seconds or time.monotonic() - self._start
        row["images_per_second"] = self._images / seconds
        self.rows.append(row)
        write_metrics(self.rows, self.folder / METRICS_FILE)
        mark = "  best so far" if validated and self._keep_if_best(pl_module, row) else ""
        pl_module.metrics = None
        say("epoch", self._line(row, trainer.max_epochs or 0) + mark)

    def _keep_if_best(self, module: DetectorModule, row: dict[str, Any]) -> bool:
        metrics = {name: row[name] for name in VALIDATION}
        if self.best and row["mAP"] < self.best["mAP"]:  # no nan is smaller
            return False
        self.best = {"epoch": row["epoch"], **metrics}
        write_whole(
            {
                "detector": self.description.as_plain(),
                # On the CPU, so that it loads without a GPU.
                "weights": {k: v.cpu() for k, v in module.detector.state_dict().items()},
                "epoch": row["epoch"],
                "metrics": metrics,
                "score_threshold": module.score_threshold,
                "training": {**module.training_facts(), "loss": row["loss"]},
            },
            self.folder / BEST,
        )
        return True

    def _line(self, row: dict[str, Any], epochs: int) -> str:
        validation = ""
        if "mAP" in row:
            validation = f"val loss {row['val_loss']:.3f}  mAP {show(row['mAP'])}  "
            validation += f"mAP50 {show(row['mAP50'])}  "
        return (
            f"{row['epoch']}/{epochs}  loss {row['loss']:.3f} (class "
            f"{row['loss_classification']:.3f}, box {row['loss_bbox_regression']:.3f})  "
            f"{validation}lr {row['learning_rate']:.1e}  {row['images_per_second']:.1f} images/s"
        )
