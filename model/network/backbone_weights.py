"""Where a backbone's first weights come from: ImageNet, a file, or nowhere."""

from __future__ import annotations

import hashlib
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlparse
from urllib.request import Request, urlopen

import torch
from efficientnet_pytorch.utils import url_map
from torch import Tensor
from torchvision.models import ResNet50_Weights

from utils.errors import UserError
from utils.safe_load import load_plain

CONNECT_TIMEOUT = 3.0  # seconds after which `auto` gives up on the network


@dataclass(frozen=True)
class BackboneWeights:
    """state: the state dict without the classifier, or None to load nothing.

    origin: for messages, e.g. "ImageNet" or a path. pretrained: whether the backbone has
    been trained, so that parts of it may be frozen.
    """

    state: dict[str, Tensor] | None
    origin: str
    pretrained: bool = True


RANDOM_WEIGHTS = BackboneWeights(None, "random numbers", pretrained=False)
# The weights of the whole detector are loaded afterwards.
WEIGHTS_FOLLOW = BackboneWeights(None, "a checkpoint")


def find_backbone_weights(model_name: str, choice: str) -> BackboneWeights:
    """The weights of a choice.

    choice: ``imagenet`` (the package's own file, from the cache or downloaded), ``none``, the path
    of a state dict, or ``auto``: ImageNet where it is cached or reachable, else random weights with
    a warning that says what this means for the result.
    Raises UserError when ``imagenet`` or a path is requested and not available.
    """
    if choice == "none":
        return RANDOM_WEIGHTS
    if choice == "imagenet":
        return _imagenet(model_name)
    if choice != "auto":
        return _from_file(Path(choice))
    url = imagenet_url(model_name)
    if cached_file(url).is_file() or is_reachable(url):
        try:
            return _imagenet(model_name)
        except UserError as error:
            reason = str(error)
    else:
        reason = "not in the cache and no network"
    warnings.warn(
        f"No ImageNet weights for {model_name} ({reason}): the backbone starts from random "
        "weights, needs many more epochs and ends with a lower mAP on a small data set. "
        f"With a network, or with the file at {cached_file(url)}, they are used automatically.",
        stacklevel=2,
    )
    return RANDOM_WEIGHTS


def imagenet_url(model_name: str) -> str:
    """The address from which the backbone's package downloads."""
    return ResNet50_Weights.IMAGENET1K_V1.url if model_name == "resnet50" else url_map[model_name]


def cached_file(url: str) -> Path:
    """Where torch.hub caches the download of ``url``."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name


def _imagenet(model_name: str) -> BackboneWeights:
    url = imagenet_url(model_name)
    path = cached_file(url)
    # File names end in the first hexadecimal digits of their SHA-256, e.g. ``-355c32eb.pth``.
    match = re.search(r"-([0-9a-f]{8,})\.pth$", path.name)
    prefix = match.group(1) if match else ""
    try:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix)
    except (URLError, OSError, RuntimeError) as error:
        raise UserError(
            f"--backbone-weights imagenet: the weights of {model_name} cannot be downloaded from "
            f"{url} ({error}); put the file at {path}, or give --backbone-weights PATH or none."
        ) from error
    if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(prefix):
        raise UserError(
            f"--backbone-weights imagenet: {path} is damaged (its hash is not the one in its "
            "name); delete it to download it again."
        )
    return BackboneWeights(_load_state(path, "--backbone-weights imagenet"), "ImageNet")


def _from_file(path: Path) -> BackboneWeights:
    if not path.is_file():
        raise UserError(
            f"--backbone-weights {path}: no such file; give auto, imagenet, none or the path of a "
            "state dict."
        )
    return BackboneWeights(_load_state(path, f"--backbone-weights {path}"), str(path))


def _load_state(path: Path, flag: str) -> dict[str, Tensor]:
    state = load_plain(
        path,
        f"{flag}: {path} cannot be loaded as plain tensors",
        "give a state dict saved with torch.save(network.state_dict(), PATH)",
    )
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise UserError(f"{flag}: {path} holds no state dict (names to tensors).")
    return {name: v for name, v in state.items() if not name.startswith(("_fc.", "fc."))}


def load_into(network: torch.nn.Module, weights: BackboneWeights, model_name: str) -> None:
    """Copy the weights into the network; raises UserError naming what does not fit."""
    if weights.state is None:
        return
    expected = network.state_dict()
    wrong = [
        name
        for name in {**expected, **weights.state}
        if name not in expected
        or (name not in weights.state and not name.endswith("num_batches_tracked"))
        or (name in weights.state and weights.state[name].shape != expected[name].shape)
    ]
    if wrong:
        raise UserError(
            f"--backbone-weights: {weights.origin} does not fit {model_name}: {len(wrong)} tensors "
            f"are missing, unknown or of another shape, first {wrong[0]!r}; give weights of the "
            "same model."
        )
    network.load_state_dict(weights.state, strict=False)


def is_reachable(url: str) -> bool:
    """Whether the address answers within ``CONNECT_TIMEOUT`` seconds."""
    try:
        # Through a proxy too, where the environment names one.
        with urlopen(Request(url, method="HEAD"), timeout=CONNECT_TIMEOUT):
            return True
    except (OSError, ValueError):
        return False
