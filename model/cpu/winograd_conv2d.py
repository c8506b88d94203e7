"""What stands in the place of a convolution of a single map, with fewer multiplications."""

from __future__ import annotations

from torch import Tensor, nn

from model.cpu.depthwise import sharing_weights
from model.cpu.switch import cpu_kernels_apply
from model.cpu.tiles import as_rows
from model.cpu.trainable_tower import trainable_tower
from model.cpu.winograd import WinogradTower


class WinogradConv2d(WinogradTower):
    """A 3x3 convolution of stride 1 and padding 1, for inference in float32 on a CPU."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__([convolution])

    def forward(self, x: Tensor) -> Tensor:
        """x: float32 (B, C, H, W). Returns (B, K, H, W), channels last."""
        rows, tiles = as_rows([x.to(self.dtype)])
        return _as_map(super().forward(rows, [tiles]), x)


class TrainableWinogradConv2d(nn.Conv2d):
    """A 3x3 convolution of stride 1 and padding 1 that trains with fewer multiplications on a CPU.

    In float32, that is; elsewhere, and in evaluation mode, it is what it inherits from.
    """

    @classmethod
    def sharing(cls, convolution: nn.Conv2d) -> TrainableWinogradConv2d:
        """With the weights of a convolution that is ``replaceable``."""
        return sharing_weights(cls, convolution, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, H, W). Returns (B, K, H, W)."""
        if not (self.training and cpu_kernels_apply(x)):
            return super().forward(x)
        rows, tiles = as_rows([x])
        out = trainable_tower(rows, [tiles, tiles], [self])
        return _as_map(out, x)


def _as_map(rows: Tensor, x: Tensor) -> Tensor:
    """A map's rows in the shape of the map x that they come from."""
    batch, _, height, width = x.shape
    return rows[:-1].view(batch, height, width, -1).permute(0, 3, 1, 2)


def replaceable(module: nn.Module) -> bool:
    """Whether ``WinogradConv2d`` computes the same as this module."""
    return (
        isinstance(module, nn.Conv2d)
        and type(module) in (nn.Conv2d, TrainableWinogradConv2d)
        and module.kernel_size == (3, 3)
        and module.stride == (1, 1)
        and module.padding == (1, 1)
        and module.dilation == (1, 1)
        and module.groups == 1
        and module.padding_mode == "zeros"
    )
