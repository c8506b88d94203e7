"""The convolutions of a head as they are trained on a CPU, with fewer multiplications."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from model.cpu.tiles import INNER, OUTER, Tiles
from model.cpu.winograd import Layer, Workspace, convolve, transformed_kernel, weight_gradient


def trainable_tower(
    rows: Tensor, needed: Sequence[Tiles], convolutions: Sequence[nn.Conv2d]
) -> Tensor:
    """3x3 convolutions with ReLUs between them, and the gradients of all their inputs.

    rows: (n + 1, C), the last one zero. needed: first the tiles for which the gradient of ``rows``
    is needed, which reaches as far as the first layer reads; then what each layer has to write, see
    ``Tiles.leading_to``. convolutions: with biases or without. Returns (n + 1, K), zeros where the
    last layer had nothing to write; only needed locations of it may get a gradient. There is no
    second derivative.
    """
    parameters = [p for c in convolutions for p in (c.weight, c.bias)]
    return _Tower.apply(rows, needed, *parameters)


class _Tower(torch.autograd.Function):
    """Saves only the layers' outputs for backward: their tiles are more than twice as large."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, needed: Sequence[Tiles], *parameters: Tensor) -> Tensor:
        weights, biases = parameters[::2], parameters[1::2]
        space, layers = Workspace(rows), [rows]
        for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            reads = _reads(needed, number)
            out = rows.new_empty(INNER**2 * reads.shape[1] + 1, len(weight))
            layer = Layer(_kernel(weight, space), bias, relu=number < len(weights) - 1)
            layers.append(convolve(layers[-1], reads, layer, out, space))
        ctx.needed = needed
        ctx.save_for_backward(*weights, *layers[:-1])
        return layers[-1].index_select(0, needed[-1].to_map_order)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        needed: Sequence[Tiles] = ctx.needed
        gradient = gradients[0].index_select(0, needed[-1].to_tile_order)
        gradient.index_fill_(0, needed[-1].padding_rows, 0)
        count = len(needed) - 1
        weights, inputs = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        space = Workspace(gradient)
        of_parameters: list[Tensor | None] = []
        for number in reversed(range(count)):
            needs_weight, needs_bias = ctx.needs_input_grad[2 + 2 * number : 4 + 2 * number]
            of_bias = gradient.sum(dim=0) if needs_bias else None
            of_weight = None
            if needs_weight:
                of_weight = weight_gradient(inputs[number], _reads(needed, number), gradient, space)
            of_parameters = [of_weight, of_bias, *of_parameters]
            if not any(ctx.needs_input_grad[: 2 + 2 * number]):
                return None, None, *[None] * (2 * number), *of_parameters
            # The gradient of a convolution's input is a convolution with the kernel rotated by 180
            # degrees.
            rotated = weights[number].flip(2, 3).transpose(0, 1)
            layer = Layer(_kernel(rotated, space), None, relu=False)
            before = needed[number]
            out = gradient.new_empty(INNER**2 * before.reads.shape[1] + 1, len(rotated))
            reads = before.reads_from(needed[number + 1])
            relu_output = inputs[number] if number else None
            gradient = convolve(gradient, reads, layer, out, space, relu_output)
            gradient.index_fill_(0, before.padding_rows, 0)
        return gradient.index_select(0, needed[0].to_map_order), None, *of_parameters


def _reads(needed: Sequence[Tiles], layer: int) -> Tensor:
    """What a layer reads: the first one the maps, the others what the one before wrote."""
    tiles = needed[layer + 1]
    return tiles.reads_from(needed[layer]) if layer else tiles.reads


def _kernel(weight: Tensor, space: Workspace) -> Tensor:
    return transformed_kernel(weight, space("kernel", OUTER**2, weight.shape[1], len(weight)))
