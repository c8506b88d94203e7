"""Anchors in whole float32 precision, made once per shape."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList


class Float32AnchorGenerator(AnchorGenerator):
    """Torchvision's generator, in float32, with a cache of the anchors of the last few shapes.

    Torchvision takes the dtype of the feature maps, and bfloat16 counts whole pixels only up to
    256: in larger images the anchors of a bf16 run would be a few pixels off.
    """

    CACHED_SHAPES = 16

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.cache: dict[Any, Tensor] = {}

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """float32 (A, 4), xyxy, of each image: one shared tensor, not to be modified."""
        maps = tuple(tuple(m.shape[-2:]) for m in feature_maps)
        key = (tuple(image_list.tensors.shape[-2:]), maps, feature_maps[0].device)
        if key not in self.cache:
            if len(self.cache) >= self.CACHED_SHAPES:
                self.cache.clear()
            # Anchors made during inference may be needed in training later.
            with torch.inference_mode(False):
                self.cache[key] = super().forward(image_list, feature_maps)[0]
        return [self.cache[key]] * len(image_list.image_sizes)

    def set_cell_anchors(self, dtype: torch.dtype, device: torch.device) -> None:
        super().set_cell_anchors(torch.float32, device)
