"""Normalisation and resizing of the model's input."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes


class LongerSideTransform(GeneralizedRCNNTransform):
    """Torchvision's input transform with a resize that does not alias.

    The longer side becomes ``image_size`` pixels. Torchvision interpolates bilinearly without
    averaging, which loses small marks of pictures much larger than ``image_size`` and makes them
    look unlike the training crops. An image that has the size already is left untouched.
    """

    def __init__(self, image_size: int, image_mean: list[float], image_std: list[float]) -> None:
        super().__init__(image_size, image_size, image_mean, image_std)

    def resize(self, image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
        """image: float (3, H, W). target: None, or a dict whose ``boxes`` are scaled with it."""
        old = (image.shape[-2], image.shape[-1])
        scale = self.max_size / max(old)
        new = (max(1, round(old[0] * scale)), max(1, round(old[1] * scale)))
        if new != old:
            image = F.interpolate(image[None], size=new, mode="bilinear", antialias=True)[0]
            if target is not None:
                target["boxes"] = resize_boxes(target["boxes"], list(old), list(new))
        return image, target
