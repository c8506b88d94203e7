"""Anchors that stay where they are, whatever precision the features come in."""

from __future__ import annotations

import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator


class Float32AnchorGenerator(AnchorGenerator):
    """Torchvision's generator, in float32.

    Torchvision takes the dtype of the feature maps, and bfloat16 counts whole pixels only up to
    256: at larger images the anchors of a bf16 run would lie up to some pixels off.
    """

    def set_cell_anchors(self, dtype: torch.dtype, device: torch.device) -> None:
        super().set_cell_anchors(torch.float32, device)
