"""How weights are trained: rates, weight decay, schedule and averaging."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet


@dataclass(frozen=True)
class Recipe:
    """The hyperparameters of training.

    learning_rate: peak of the schedule. backbone_factor: multiplies it for a pretrained backbone.
    warmup_steps: linear, before the cosine to zero. ema_decay: of the averaged weights.
    """

    learning_rate: float = 1e-3
    backbone_factor: float = 1.0
    weight_decay: float = 0.05
    warmup_steps: int = 100
    ema_decay: float = 0.998
    seed: int = 0


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


def warmed_up_average(decay: float) -> Any:
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
