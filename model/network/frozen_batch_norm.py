"""Batch norm whose statistics and affine parameters never change."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d as TorchvisionFrozenBatchNorm2d


class FrozenBatchNorm2d(TorchvisionFrozenBatchNorm2d):
    """Torchvision's frozen batch norm in one fused kernel that keeps autocast's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = self.running_mean, self.running_var
        return F.batch_norm(x, mean, variance, self.weight, self.bias, eps=self.eps)


def freeze_batch_norms(module: nn.Module) -> None:
    """Replace every ``nn.BatchNorm2d`` in ``module`` by a frozen one with its weights.

    For pretrained weights only: a random network with frozen norm does not train
    (https://github.com/facebookresearch/detectron2/issues/914).
    """
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, frozen(child))
        else:
            freeze_batch_norms(child)


def frozen(norm: nn.BatchNorm2d) -> FrozenBatchNorm2d:
    """The same norm, as it is now, for good."""
    copy = FrozenBatchNorm2d(norm.num_features, eps=norm.eps)
    copy.load_state_dict(norm.state_dict())
    return copy
