"""Our weights in the reference, and both on the same image.

The backbones differ in one thing only: where a stride of 2 reads. On sides that are multiples of 32
efficientnet_pytorch reads the positions 2i + {0, 1, 2} and torchvision 2i + {-1, 0, 1}. Seen in a
mirror, left to right and top to bottom, the one is the other. The reference therefore gets the
mirrored kernels in its backbone, and for a comparison its backbone sees the mirrored image and
its maps are mirrored back. What is timed is the reference as it is.
"""

from __future__ import annotations

import copy
from collections import OrderedDict

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet

BACKBONE_NORM_EPS = 1e-3  # efficientnet_pytorch's; torchvision's own is 1e-5
BODY = "backbone.body."


@torch.no_grad()
def copy_weights(ours: RetinaNet, reference: RetinaNet) -> None:
    """Give the reference all weights of our b0. Raises ValueError where shapes do not fit."""
    state = ours.state_dict()
    body = [tensor for name, tensor in state.items() if name.startswith(BODY)]
    rest = {name: tensor for name, tensor in state.items() if not name.startswith(BODY)}
    theirs = reference.backbone.body.state_dict()
    if [t.shape for t in body] != [t.shape for t in theirs.values()]:
        raise ValueError("the two backbones differ in the shapes of their weights")
    mirrored_body = (t.flip(2, 3) if t.dim() == 4 else t for t in body)
    reference.backbone.body.load_state_dict(dict(zip(theirs, mirrored_body, strict=True)))
    missing, unexpected = reference.load_state_dict(rest, strict=False)
    if unexpected or not all(name.startswith(BODY) for name in missing):
        raise ValueError(f"missing {missing}, unexpected {unexpected}")
    for module in reference.backbone.body.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = BACKBONE_NORM_EPS


class Mirrored(nn.Module):
    """A backbone that sees its images in a mirror. Sides: multiples of 32."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        maps = self.body(images.flip(2, 3))
        return OrderedDict((name, m.flip(2, 3)) for name, m in maps.items())


def mirrored(reference: RetinaNet) -> RetinaNet:
    """The reference as it is compared; it shares its weights."""
    twin = copy.copy(reference)
    twin._modules = dict(reference._modules)
    backbone = copy.copy(reference.backbone)
    backbone._modules = dict(reference.backbone._modules)
    backbone.body = Mirrored(reference.backbone.body)
    twin.backbone = backbone
    return twin
