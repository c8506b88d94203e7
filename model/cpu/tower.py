"""The convolutions of a head one after the other, over all maps at once, for inference."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from model.cpu.tiles import INNER, OUTER, Tiles, parts


class Layer(NamedTuple):
    """A convolution of C channels to K. relu: whether one follows.

    kernel: (36, C, K) for Winograd's, (9 C, K) for products. bias: (K,).
    """

    kernel: Tensor
    bias: Tensor | None
    relu: bool


class Workspace:
    """Memory for what only lives within a step, taken once for all layers and all parts.

    A function that gets one may overwrite what it has under any name but that of its arguments.
    Fresh pages of the system for each of them cost more than half as much as the products.
    """

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._buffers: dict[str, Tensor] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        """Uninitialised, like the tensor given; what had this name before is overwritten."""
        size = math.prod(shape)
        if name not in self._buffers or len(self._buffers[name]) < size:
            self._buffers[name] = self._like.new_empty(size)
        return self._buffers[name][:size].view(shape)


def reads_of(needed: Sequence[Tiles], layer: int) -> Tensor:
    """What a layer reads: the first one all locations, the others what the one before wrote.

    needed: of the layers, and before them any for what the first one reads.
    """
    tiles = needed[layer + 1]
    return tiles.reads_from(needed[layer]) if layer else tiles.reads


def blocks_of(rows: Tensor) -> Tensor:
    """What tiles write, (16 T + 1, K), without the zeros: (16, T, K)."""
    return rows[:-1].view(INNER**2, -1, rows.shape[1])


class Tower(nn.Module):
    """3x3 convolutions of stride 1 and padding 1 with ReLUs between them, without gradients.

    convolutions: whose weights are taken over.
    """

    kernel0: Tensor

    def __init__(self, convolutions: Sequence[nn.Conv2d]) -> None:
        super().__init__()
        self.layers = len(convolutions)
        for number, convolution in enumerate(convolutions):
            bias = convolution.bias
            with torch.autocast("cpu", enabled=False):
                kernel = self._kernel(convolution.weight.detach())
            self.register_buffer(f"kernel{number}", kernel)
            self.register_buffer(f"bias{number}", None if bias is None else bias.detach())

    @property
    def dtype(self) -> torch.dtype:
        """Of the kernels, and of the rows that it takes."""
        return self.kernel0.dtype

    @torch.no_grad()
    @torch.autocast("cpu", enabled=False)
    def forward(self, rows: Tensor, needed: Sequence[Tiles]) -> Tensor:
        """rows: (rows + 1, C). needed: what each layer has to write, see ``Tiles.leading_to``.

        Returns float32 (rows + 1, K), zeros where the last layer had nothing to write.
        """
        space = Workspace(rows)
        tiles = [needed[0], *needed]
        for number in range(self.layers):
            kernel, bias = getattr(self, f"kernel{number}"), getattr(self, f"bias{number}")
            layer = Layer(kernel, bias, relu=number < self.layers - 1)
            reads = reads_of(tiles, number)
            name = "an odd layer" if number % 2 else "an even layer"
            outputs = space if kernel.dtype == rows.dtype else Workspace(kernel)
            out = outputs(name, INNER**2 * reads.shape[1] + 1, kernel.shape[-1])
            self._convolve(rows, reads, layer, out, space)
            rows = out
        return rows.index_select(0, needed[-1].places).float()

    def _kernel(self, weight: Tensor) -> Tensor:
        """weight: (K, C, 3, 3). What ``_convolve`` multiplies by; K comes last."""
        raise NotImplementedError

    def _convolve(
        self, rows: Tensor, reads: Tensor, layer: Layer, out: Tensor, space: Workspace
    ) -> None:
        """rows: (rows + 1, C), the last one zero. reads: (36, T), rows.

        Fills out, (16 T + 1, K), in the order in which the tiles write, with zeros at the end.
        """
        raise NotImplementedError


class ProductTower(Tower):
    """With one matrix product for a location and its neighbours, in any precision.

    The last layer computes in float32: of scores in bfloat16, with its eight bits, many are equal
    and have no order.
    """

    def __init__(self, convolutions: Sequence[nn.Conv2d]) -> None:
        *others, last = convolutions
        super().__init__([*others, copy.deepcopy(last).float()])

    def _kernel(self, weight: Tensor) -> Tensor:
        return weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous()

    def _convolve(
        self, rows: Tensor, reads: Tensor, layer: Layer, out: Tensor, space: Workspace
    ) -> None:
        neighbours = reads.view(OUTER, OUTER, -1).unfold(0, 3, 1).unfold(1, 3, 1)
        neighbours = neighbours.reshape(INNER**2, -1, 9)
        blocks = blocks_of(out)
        for some in parts(reads.shape[1]):
            here = neighbours[:, some].flatten()
            gathered = space("gathered", len(here) // 9, layer.kernel.shape[0])
            torch.index_select(rows, 0, here, out=gathered.view(len(here), -1))
            if layer.kernel.dtype == rows.dtype:
                results = space("results", len(gathered), out.shape[1])
                torch.mm(gathered, layer.kernel, out=results)
            else:
                results = gathered.to(layer.kernel.dtype) @ layer.kernel
            if layer.bias is not None:
                results += layer.bias
            if layer.relu:
                results.relu_()
            blocks[:, some] = results.view(INNER**2, -1, out.shape[1])
        out[-1] = 0
