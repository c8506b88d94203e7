"""The LightningModule: training and validation steps, optimizer, schedule, averaged weights."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from torchvision.models.detection import RetinaNet

from evaluation.metrics.coco import CocoEvaluation, CocoMetrics
from evaluation.metrics.operating_point import OperatingPoints
from evaluation.metrics.results import ImageResult
from model.detector import Detector
from model.network.retinanet import BatchedRetinaNet
from model.training.recipe import Recipe, parameter_groups, warmed_up_average, warmup_cosine
from utils.hardware import Machine


class NonFiniteLoss(Exception):
    """The loss became infinite or NaN. image_ids: the images of that batch, in their split."""

    def __init__(self, image_ids: list[int], losses: dict[str, float]) -> None:
        self.image_ids = image_ids
        self.losses = losses
        super().__init__(f"non-finite loss {losses} on images {image_ids}")


class Timer:
    """Images per second; the first batch, a warm-up, counts only if there is no other."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, float]] = []

    @contextmanager
    def measure(self, images: int, device: torch.device) -> Iterator[None]:
        _finish_queue(device)
        start = time.perf_counter()
        yield
        _finish_queue(device)
        self.batches.append((images, time.perf_counter() - start))

    @property
    def rate(self) -> float:
        counted = self.batches[1:] or self.batches
        seconds = sum(s for _, s in counted)
        return sum(n for n, _ in counted) / seconds if seconds else float("nan")


def _finish_queue(device: torch.device) -> None:
    # A GPU still computes after the call returned.
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class DetectorModule(pl.LightningModule):
    """Trains a RetinaNet; validates and saves its averaged weights.

    model: ours, see ``get_efficient_retinanet``. class_names: the K names, label i + 1 is
    ``class_names[i]``. description: plain values that rebuild the model, stored in checkpoints.
    validation_loss: whether a validation measures the losses too.
    After a validation ``evaluation``, its ``results`` (one per image) and ``metrics``, and
    ``score_threshold`` (of the highest F1, None without detections) are those of its images.
    The batches hold uint8 images (3, H, W); those to train on have the scale at which the model
    sees them.
    """

    def __init__(
        self,
        model: BatchedRetinaNet,
        class_names: tuple[str, ...],
        recipe: Recipe | None = None,
        description: dict[str, Any] | None = None,
        *,
        validation_loss: bool = True,
    ) -> None:
        super().__init__()
        self.model = model
        self.class_names = class_names
        self.recipe = recipe = recipe or Recipe()
        self.description = description or {}
        self.validation_loss = validation_loss
        averaging = warmed_up_average(recipe.ema_decay)
        self.average = AveragedModel(model, use_buffers=True, multi_avg_fn=averaging)
        self.average.requires_grad_(False)
        self.metrics: CocoMetrics | None = None
        self.score_threshold: float | None = None
        self.evaluation = CocoEvaluation([], class_names)
        self.images_per_epoch = self.planned_steps = 0
        self._results: list[ImageResult] = []
        self._timer = Timer()
        self._detector: Detector | None = None  # during a validation

    @property
    def detector(self) -> RetinaNet:
        """The model to validate, save and use: the averaged weights."""
        return self.average.module

    @property
    def results(self) -> list[ImageResult]:
        """Of the last validation, one per image."""
        return self.evaluation.results

    def on_train_start(self) -> None:
        # Lightning keeps the modes, and a caller may have left the model in evaluation mode; the
        # average is only ever evaluated.
        self.model.train()
        self.average.eval()
        if int(self.average.n_averaged) == 0:
            # The first "average" is the weights that training starts from.
            self.average.update_parameters(self.model)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # Drop-connect depends on (seed, step) alone, so that a resumed run equals an uninterrupted
        # one.
        torch.manual_seed((self.recipe.seed << 32) + self.global_step)

    def training_step(self, batch: tuple[list[Tensor], list[Any]], batch_idx: int) -> Tensor | None:
        images, targets = batch
        if not images:  # none of them could be read
            return None
        losses = self.model.losses_at_scale(images, targets)
        loss: Any = sum(losses.values())
        values = {name: value.detach() for name, value in losses.items()}
        if not torch.isfinite(loss):
            ids = [t["image_id"] for t in targets]
            raise NonFiniteLoss(ids, {name: float(value) for name, value in values.items()})
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        named = {"loss": loss.detach(), **{f"loss_{k}": v for k, v in values.items()}}
        self.log_dict(named, batch_size=len(images))
        self.log("learning_rate", rate)
        # Short names, so that the progress bar fits a line.
        brief = {"cls": values["classification"], "box": values["bbox_regression"], "lr": rate}
        self.log_dict(brief, prog_bar=True, logger=False)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.images_per_epoch = len(batch[0]) + (self.images_per_epoch if batch_idx else 0)
        self.average.update_parameters(self.model)

    def on_validation_start(self) -> None:
        precision = "bf16" if "bf16" in str(self.trainer.precision) else "fp32"
        machine = Machine(self.device, precision)
        self._detector = Detector(self.detector, machine, losses=self.validation_loss)

    def validation_step(self, batch: tuple[list[Tensor], list[Any]], batch_idx: int) -> None:
        images, targets = batch
        if not images:  # none of them could be read
            return
        assert self._detector is not None
        with self._timer.measure(len(images), self.device):
            losses, detections = self._detector(images, targets)
        if losses:
            self.log("val_loss", sum(losses.values()), batch_size=len(images))
        self._results += [
            ImageResult.from_target(target, detected)
            for target, detected in zip(targets, detections, strict=True)
        ]

    @property
    def images_per_second(self) -> float:
        """Of the validation: model and post-processing, without loading."""
        return self._timer.rate

    def on_validation_epoch_end(self) -> None:
        self._detector = None
        self.evaluation = CocoEvaluation(self._results, self.class_names)
        self._results = []
        self.score_threshold = OperatingPoints(self.evaluation).recommended()
        self.metrics = metrics = self.evaluation.metrics
        self.log_dict({"mAP": metrics.map, "mAP50": metrics.map_50, "mAP75": metrics.map_75})
        self.log("map", metrics.map, prog_bar=True, logger=False)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            parameter_groups(self.model, self.recipe),
            lr=self.recipe.learning_rate,
            # All weights in one kernel. Lightning cannot clip gradients with it in mixed precision;
            # None leaves the choice to torch, False would be the slowest on a GPU.
            fused=True if self.trainer.precision == "32-true" else None,
        )
        total = self.planned_steps = int(self.trainer.estimated_stepping_batches)
        warmup = min(self.recipe.warmup_steps, total // 2)
        # The slope stays as requested: random weights diverge if the rate rises within a few steps.
        # A run too short for its warm-up never reaches the peak.
        peak = warmup / self.recipe.warmup_steps if self.recipe.warmup_steps else 1.0
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: peak * warmup_cosine(step, warmup, total)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state, prefix = checkpoint["state_dict"], "average.module."
        averaged = [name for name in state if name.startswith(prefix)]
        checkpoint["weights"] = {name.removeprefix(prefix): state.pop(name) for name in averaged}
        checkpoint["detector"] = self.description
        checkpoint["score_threshold"] = self.score_threshold
        checkpoint["training"] = self.training_facts()

    def training_facts(self) -> dict[str, float]:
        """The state of the run, for a checkpoint; see ``Checkpoint.training``."""
        return {
            "learning_rate": self.recipe.learning_rate,
            "steps": self.global_step,
            "planned_steps": self.planned_steps,
            "warmup_steps": self.recipe.warmup_steps,
            "images": self.images_per_epoch,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.score_threshold = checkpoint.get("score_threshold")
        for name, value in checkpoint["weights"].items():
            checkpoint["state_dict"][f"average.module.{name}"] = value
