"""Anchors that stay where they are, made once for each shape."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList


class Float32AnchorGenerator(AnchorGenerator):
    """Torchvision's generator, in float32, which remembers the anchors of the last few shapes.

    Torchvision takes the dtype of the feature maps, and bfloat16 counts whole pixels only up to
    256: at larger images the anchors of a bf16 run would lie up to some pixels off.
    """

    SHAPES_KEPT = 16

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._made: dict[Any, Tensor] = {}

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """float32 (A, 4), xyxy, for each image: one tensor, which nobody may change."""
        maps = tuple(tuple(m.shape[-2:]) for m in feature_maps)
        key = (tuple(image_list.tensors.shape[-2:]), maps, feature_maps[0].device)
        if key not in self._made:
            if len(self._made) >= self.SHAPES_KEPT:
                self._made.clear()
            # What an inference made first may be needed by a training.
            with torch.inference_mode(False):
                self._made[key] = super().forward(image_list, feature_maps)[0]
        return [self._made[key]] * len(image_list.image_sizes)

    def set_cell_anchors(self, dtype: torch.dtype, device: torch.device) -> None:
        super().set_cell_anchors(torch.float32, device)
