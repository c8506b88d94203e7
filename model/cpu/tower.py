"""The convolutions of a head one after the other, over all maps at once, for inference."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model.cpu.tiles import INNER, Tiles
from model.cpu.winograd import Layer, Workspace, convolve, transformed_kernel


class Tower(nn.Module):
    """3x3 convolutions of stride 1 and padding 1 with ReLUs between them, without gradients.

    convolutions: whose weights are taken over, float32.
    """

    def __init__(self, convolutions: Sequence[nn.Conv2d]) -> None:
        super().__init__()
        self.depth = len(convolutions)
        for number, convolution in enumerate(convolutions):
            bias = convolution.bias
            with torch.autocast("cpu", enabled=False):
                kernel = transformed_kernel(convolution.weight.detach())
            self.register_buffer(f"kernel{number}", kernel)
            self.register_buffer(f"bias{number}", None if bias is None else bias.detach())

    @torch.no_grad()
    @torch.autocast("cpu", enabled=False)
    def forward(self, rows: Tensor, needed: Sequence[Tiles]) -> Tensor:
        """rows: float32 (n + 1, C). needed: what each layer has to write, ``Tiles.leading_to``.

        Returns float32 (n + 1, K), zeros where the last layer had nothing to write.
        """
        space = Workspace(rows)
        for number in range(self.depth):
            kernel, bias = getattr(self, f"kernel{number}"), getattr(self, f"bias{number}")
            layer = Layer(kernel, bias, relu=number < self.depth - 1)
            tiles = needed[number]
            reads = tiles.reads_from(needed[number - 1]) if number else tiles.reads
            # A layer reads one of the two buffers and fills the other.
            name = f"output {number % 2}"
            out = space(name, INNER**2 * reads.shape[1] + 1, kernel.shape[-1])
            rows = convolve(rows, reads, layer, out, space)
        return rows.index_select(0, needed[-1].to_map_order)
