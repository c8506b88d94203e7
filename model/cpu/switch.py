"""One switch, for the whole process, between this folder's kernels and torch's own operations."""

from __future__ import annotations

import torch
from torch import Tensor

_switched_on = True


def use_cpu_kernels(on: bool) -> None:
    """Whether this folder's kernels are used where they apply; they are by default.

    A copy that ``for_inference`` made before keeps the kernels that it was made with.
    """
    global _switched_on
    _switched_on = on


def cpu_kernels_apply(x: Tensor) -> bool:
    """Whether x is to be computed by them: on a CPU, in float32 or float64, without autocast.

    Not while torch.compile traces, which makes kernels of its own.
    """
    return (
        _switched_on
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )
