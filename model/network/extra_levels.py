"""The two coarsest levels of the pyramid."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops.feature_pyramid_network import LastLevelP6P7


class ExtraLevels(LastLevelP6P7):
    """Torchvision's P6 and P7; on a CPU always in the dtype of their weights.

    On a map of a single location, as small images have it here, the bfloat16 gradient of a stride-2
    convolution on a CPU (torch 2.15, oneDNN) is uninitialised memory: up to 1e27, sometimes nan.
    These levels are so small that float32 costs no time.
    """

    def forward(
        self, p: list[Tensor], c: list[Tensor], names: list[str]
    ) -> tuple[list[Tensor], list[str]]:
        if p[-1].device.type != "cpu":
            return super().forward(p, c, names)
        dtype = self.p6.weight.dtype
        with torch.autocast("cpu", enabled=False):
            levels, names = super().forward([p[-1].to(dtype)], [c[-1].to(dtype)], names)
        return [*p, *levels[1:]], names
