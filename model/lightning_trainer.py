"""The LightningModule: training and validation steps, optimizer, schedule, averaged weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torchvision.models.detection import RetinaNet

from evaluation.metrics.coco import CocoEvaluation, CocoMetrics
from evaluation.metrics.operating_point import OperatingPoints
from evaluation.metrics.results import ImageResult
from model.for_inference import for_inference
from model.network.forward import losses_and_detections
from model.network.retinanet import BatchedRetinaNet
from utils.hardware import Machine


class NonFiniteLoss(Exception):
    """The loss became infinite or NaN. image_ids: the images of that batch, in their split."""

    def __init__(self, image_ids: list[int], losses: dict[str, float]) -> None:
        self.image_ids = image_ids
        self.losses = losses
        super().__init__(f"non-finite loss {losses} on images {image_ids}")


@dataclass(frozen=True)
class Recipe:
    """How the weights are moved.

    learning_rate: peak of the schedule. backbone_factor: multiplies it for a pretrained backbone.
    warmup_steps: linear, before the cosine to zero. ema_decay: of the averaged weights.
    """

    learning_rate: float = 1e-3
    backbone_factor: float = 1.0
    weight_decay: float = 0.05
    warmup_steps: int = 100
    ema_decay: float = 0.998
    seed: int = 0


class Timer:
    """Images a second; the first batch, which warms the machine up, counts only if alone."""

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
    # A GPU works on after the call returned; a time read before it is done measures nothing.
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class DetectorModule(pl.LightningModule):
    """Trains a RetinaNet; validates and saves its averaged weights.

    model: ours, see ``get_efficient_retinanet``. class_names: the K names, label i + 1 is
    ``class_names[i]``. description: plain values that rebuild the model, stored in checkpoints.
    validation_loss: whether a validation measures the losses too.
    After a validation ``evaluation``, its ``results`` (one an image) and ``metrics``, and
    ``score_threshold`` (of the highest F1, None where nothing was found) are those of its images.
    The batches hold uint8 images (3, H, W).
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
        self.average = AveragedModel(
            model, use_buffers=True, multi_avg_fn=_warmed_up_ema(recipe.ema_decay)
        )
        self.average.requires_grad_(False)
        self.metrics: CocoMetrics | None = None
        self.score_threshold: float | None = None
        self.evaluation = CocoEvaluation([], class_names)
        self.images_an_epoch = self.planned_steps = 0
        self._results: list[ImageResult] = []
        self._timer = Timer()
        # A function, and not a module that would become part of this one.
        self._detect: Callable[..., Any] = partial(losses_and_detections, self.detector)

    @property
    def detector(self) -> RetinaNet:
        """The model to validate, save and use: the averaged weights."""
        return self.average.module

    @property
    def results(self) -> list[ImageResult]:
        """Of the last validation, one an image."""
        return self.evaluation.results

    def on_train_start(self) -> None:
        # Lightning keeps the modes it finds, and whoever had the model before may have left it in
        # evaluation mode; the average is only ever evaluated.
        self.model.train()
        self.average.eval()
        if int(self.average.n_averaged) == 0:
            # The first "average" is the weights that training starts from.
            self.average.update_parameters(self.model)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # Drop-connect's randomness follows from (seed, step), whatever drew numbers in between: a
        # resumed run repeats an uninterrupted one.
        torch.manual_seed((self.recipe.seed << 32) + self.global_step)

    def training_step(self, batch: tuple[list[Tensor], list[Any]], batch_idx: int) -> Tensor | None:
        images, targets = batch
        if not images:  # none of them could be read
            return None
        losses = self.model(images, targets)
        loss = sum(losses.values())
        values = {name: value.detach() for name, value in losses.items()}
        if not torch.isfinite(loss):
            raise NonFiniteLoss(
                [t["image_id"] for t in targets], {k: float(v) for k, v in values.items()}
            )
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log_dict(
            {"loss": loss.detach(), **{f"loss_{k}": v for k, v in values.items()}},
            batch_size=len(images),
        )
        self.log("learning_rate", rate)
        # Short names for the progress bar, which has to fit a line.
        brief = {"cls": values["classification"], "box": values["bbox_regression"], "lr": rate}
        self.log_dict(brief, prog_bar=True, logger=False)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.images_an_epoch = len(batch[0]) + (self.images_an_epoch if batch_idx else 0)
        self.average.update_parameters(self.model)

    def on_validation_start(self) -> None:
        precision = "bf16" if "bf16" in str(self.trainer.precision) else "fp32"
        machine = Machine(self.device, precision)
        detector = for_inference(self.detector, machine, losses=self.validation_loss)
        self._detect = partial(losses_and_detections, detector)

    def validation_step(self, batch: tuple[list[Tensor], list[Any]], batch_idx: int) -> None:
        images, targets = batch
        with self._timer.measure(len(images), self.device):
            losses, detections = self._detect(
                images,
                targets if self.validation_loss else None,
            )
        if losses:
            self.log("val_loss", sum(losses.values()), batch_size=len(images))
        self._results += [
            ImageResult.from_tensors(t, d) for t, d in zip(targets, detections, strict=True)
        ]

    @property
    def images_per_second(self) -> float:
        """Of the validation so far: model and post-processing, without loading."""
        return self._timer.rate

    def on_validation_epoch_end(self) -> None:
        self._detect = partial(losses_and_detections, self.detector)  # lets the copy go
        self.evaluation = evaluation = CocoEvaluation(self._results, self.class_names)
        self._results = []
        self.score_threshold = OperatingPoints(evaluation).recommended()
        self.metrics = metrics = evaluation.metrics
        values = {"mAP": metrics.map, "mAP50": metrics.map_50, "mAP75": metrics.map_75}
        self.log_dict(values)
        self.log("map", metrics.map, prog_bar=True, logger=False)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            parameter_groups(self.model, self.recipe),
            lr=self.recipe.learning_rate,
            # All weights in one kernel. In mixed precision Lightning refuses to clip gradients for
            # it; None leaves the choice to torch, where False would be the slowest on a card.
            fused=True if self.trainer.precision == "32-true" else None,
        )
        total = self.planned_steps = int(self.trainer.estimated_stepping_batches)
        warmup = min(self.recipe.warmup_steps, total // 2)
        # The slope stays what was asked for: random weights that are pushed up to the full rate
        # within a few steps blow up. A run too short for its warm-up never reaches the peak.
        peak = warmup / self.recipe.warmup_steps if self.recipe.warmup_steps else 1.0
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: peak * warmup_cosine(step, warmup, total)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["state_dict"]
        prefix = "average.module."
        averaged = [name for name in state if name.startswith(prefix)]
        checkpoint["weights"] = {name.removeprefix(prefix): state.pop(name) for name in averaged}
        checkpoint["detector"] = self.description
        checkpoint["score_threshold"] = self.score_threshold
        checkpoint["training"] = self.training_facts()

    def training_facts(self) -> dict[str, float]:
        """What this training has done and will do, for a checkpoint; see ``Checkpoint``."""
        return {
            "learning_rate": self.recipe.learning_rate,
            "steps": self.global_step,
            "planned_steps": self.planned_steps,
            "warmup_steps": self.recipe.warmup_steps,
            "images": self.images_an_epoch,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.score_threshold = checkpoint.get("score_threshold")
        for name, value in checkpoint["weights"].items():
            checkpoint["state_dict"][f"average.module.{name}"] = value


def parameter_groups(model: RetinaNet, recipe: Recipe) -> list[dict[str, Any]]:
    """Trainable parameters by learning rate and weight decay; head and pyramid come first.

    Biases and norm parameters are not decayed (https://arxiv.org/abs/1812.01187, section 3.1).
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith("backbone.body."), parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": recipe.learning_rate * (recipe.backbone_factor if in_backbone else 1.0),
            "weight_decay": recipe.weight_decay if decayed else 0.0,
        }
        for (in_backbone, decayed), parameters in sorted(groups.items())
    ]


def warmup_cosine(step: int, warmup: int, total: int) -> float:
    """Factor of the learning rate: linear to 1 over ``warmup`` steps, then a cosine to 0."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, total - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def _warmed_up_ema(decay: float) -> Any:
    """An averaging function whose decay grows with the number of steps.

    ``min(decay, (1 + n) / (10 + n))``, as in TensorFlow's ExponentialMovingAverage, so that a
    short run is not dominated by its random start.
    """

    @torch.no_grad()
    def update(averages: list[Tensor], currents: list[Tensor], n: Tensor | int) -> None:
        keep = min(decay, (1 + int(n)) / (10 + int(n)))
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, currents, 1 - keep)
        else:
            torch._foreach_copy_(averages, currents)

    return update
