"""The convolutions of a head as they are trained on a CPU, with fewer multiplications."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from model.cpu.tiles import INNER, OUTER, Tiles
from model.cpu.tower import Layer, Workspace, reads_of
from model.cpu.winograd import convolve, spread_kernel, weight_gradient


def trainable_tower(
    rows: Tensor, needed: Sequence[Tiles], convolutions: Sequence[nn.Conv2d]
) -> Tensor:
    """Some 3x3 convolutions with ReLUs between them, and gradients for all that they are made of.

    rows: (rows + 1, C). needed: what each layer has to write; before them what ``rows``' gradient
    is wanted for, which reaches as far as the first layer reads, see ``Tiles.leading_to``.
    convolutions: with biases or without. Returns (rows + 1, K) of the last one, zeros where it had
    nothing to write; a gradient may come back only to locations that were wanted of it, and has
    itself no gradient.
    """
    parameters = [p for c in convolutions for p in (c.weight, c.bias)]
    return _Tower.apply(rows, needed, *parameters)


class _Tower(torch.autograd.Function):
    """Keeps the layers' outputs alone for the way back: their tiles are more than twice as much."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, needed: Sequence[Tiles], *parameters: Tensor) -> Tensor:
        weights, biases = parameters[::2], parameters[1::2]
        space, layers = Workspace(rows), [rows]
        for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            reads = reads_of(needed, number)
            out = rows.new_empty(INNER**2 * reads.shape[1] + 1, len(weight))
            layer = Layer(_spread_in(space, weight), bias, relu=number < len(weights) - 1)
            layers.append(convolve(layers[-1], reads, layer, out, space))
        ctx.needed = needed
        ctx.save_for_backward(*weights, *layers[:-1])
        return layers[-1].index_select(0, needed[-1].places)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        needed: Sequence[Tiles] = ctx.needed
        gradient = gradients[0].index_select(0, needed[-1].order)
        gradient.index_fill_(0, needed[-1].outside, 0)
        count = len(needed) - 1
        weights, inputs = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        space = Workspace(gradient)
        of_parameters: list[Tensor | None] = []
        for number in reversed(range(count)):
            needs_weight, needs_bias = ctx.needs_input_grad[2 + 2 * number : 4 + 2 * number]
            of_bias = gradient.sum(dim=0) if needs_bias else None
            of_weight = None
            if needs_weight:
                reads = reads_of(needed, number)
                of_weight = weight_gradient(inputs[number], reads, gradient, space)
            of_parameters = [of_weight, of_bias, *of_parameters]
            if not any(ctx.needs_input_grad[: 2 + 2 * number]):
                nobody = [None] * (2 * number)
                return None, None, *nobody, *of_parameters
            # What a location gave to its neighbours comes back from them: the kernel turned round.
            turned = weights[number].flip(2, 3).transpose(0, 1)
            back = Layer(_spread_in(space, turned), None, relu=False)
            before = needed[number]
            where = inputs[number] if number else None
            out = gradient.new_empty(INNER**2 * before.reads.shape[1] + 1, len(turned))
            reads = before.reads_from(needed[number + 1])
            gradient = convolve(gradient, reads, back, out, space, where)
            gradient.index_fill_(0, before.outside, 0)
        return gradient.index_select(0, needed[0].places), None, *of_parameters


def _spread_in(space: Workspace, weight: Tensor) -> Tensor:
    return spread_kernel(weight, space("spread", OUTER**2, weight.shape[1], weight.shape[0]))
