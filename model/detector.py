"""The detection step that validation, monitor and prediction share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import RetinaNet

from evaluation.metrics.results import Detections
from model.for_inference import for_inference
from model.network.forward import Losses, losses_and_detections
from model.network.input_transform import unit_range
from utils.hardware import Machine


class Detector:
    """Detects with a copy of a model that is ready for inference, see ``for_inference``.

    model: ours or torchvision's RetinaNet; it stays as it is. machine: device and precision.
    losses: whether calls measure validation losses too.
    """

    def __init__(self, model: RetinaNet, machine: Machine, *, losses: bool = False) -> None:
        self.machine = machine
        self.losses = losses
        self._model = for_inference(model, machine, losses=losses)

    @torch.no_grad()
    def __call__(
        self, images: Sequence[Tensor], targets: Sequence[Any] | None = None
    ) -> tuple[Losses, list[Detections]]:
        """images: (3, H, W), uint8 or float in 0..1, on any device; there may be none.

        targets: ``boxes`` (N, 4) xyxy pixels and ``labels`` of each image; needed for losses.
        Returns the losses, empty where they are not measured, and the detections of each image in
        its pixels, inside it, the highest-scoring first.
        """
        images = [unit_range(image.to(self.machine.device)) for image in images]
        with self.machine.autocast():
            losses, detections = losses_and_detections(
                self._model, images, targets if self.losses else None
            )
        # Torchvision's heads leave bfloat16, which NumPy does not have.
        plain = (
            {**d, "boxes": d["boxes"].float(), "scores": d["scores"].float()} for d in detections
        )
        return losses, [Detections.from_tensors(d) for d in plain]
