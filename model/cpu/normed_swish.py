"""Batch norm and the activation after it, in one step."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from model.cpu.switch import cpu_kernels_apply

aten = torch.ops.aten


def normed_swish(norm: nn.Module, x: Tensor) -> Tensor:
    """SiLU after a norm, batch norm or identity. x: (B, C, H, W); it may be overwritten.

    Where a batch norm trains on a CPU, only x is saved for backward; separate, norm and SiLU save a
    map each. The norm is recomputed instead, as in Bulo et al., https://arxiv.org/abs/1712.02616,
    whose activation has an inverse. It takes the same time and a quarter less memory for the
    activations of a training step. There is no second derivative.
    """
    if isinstance(norm, nn.BatchNorm2d) and _trains_on_cpu(norm, x):
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
        return _NormedSwish.apply(x, norm.weight, norm.bias, norm)
    return F.silu(norm(x), inplace=not torch.is_grad_enabled())


def _trains_on_cpu(norm: nn.BatchNorm2d, x: Tensor) -> bool:
    return (
        norm.training
        and norm.affine
        and norm.momentum is not None
        and torch.is_grad_enabled()
        and cpu_kernels_apply(x)
        and x.dtype == norm.weight.dtype
        and x.numel() > x.shape[1]  # else the norm itself raises an error
    )


class _NormedSwish(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        momentum = norm.momentum or 0.0  # not None, see above
        normed, mean, inverse = torch.native_batch_norm(
            x, weight, bias, norm.running_mean, norm.running_var, True, momentum, norm.eps
        )
        ctx.save_for_backward(x, weight, bias, mean, inverse)
        return F.silu(normed, inplace=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, inverse = ctx.saved_tensors
        variance = inverse.pow(-2)
        normed, *_ = torch.native_batch_norm(x, weight, bias, mean, variance, False, 0.0, 0.0)
        aten.silu_backward.grad_input(gradients[0], normed, grad_input=normed)
        of_all = aten.native_batch_norm_backward(
            normed, x, weight, None, None, mean, inverse, True, 0, ctx.needs_input_grad[:3]
        )
        return *of_all, None
