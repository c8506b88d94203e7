"""First weights of the backbone: a file, ImageNet's from the cache, or none; never a hang."""

from __future__ import annotations

import hashlib
import os
import pickle
import socket
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from efficientnet_pytorch import EfficientNet
from torch import Tensor, nn
from torchvision.models import resnet50

from model.efficient_retinanet import get_efficient_retinanet
from model.network import backbone_weights
from model.network.backbone_weights import find_backbone_weights
from utils.errors import UserError

B0 = "efficientnet-b0"
State = dict[str, Tensor]
InCache = Callable[..., Path]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def state() -> State:
    """Of a whole b0, with its classifier."""
    torch.manual_seed(1)
    return EfficientNet.from_name(B0).state_dict()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch.hub."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def in_cache(cache: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> InCache:
    """Puts a b0 into the cache under a name that fits its hash; ``damaged`` then flips a bit."""

    def put(damaged: bool = False) -> Path:
        cache.mkdir(parents=True)
        torch.save(state, cache / "aside")
        content = bytearray((cache / "aside").read_bytes())
        name = f"{B0}-{hashlib.sha256(content).hexdigest()[:8]}.pth"
        content[len(content) // 2] ^= damaged
        (cache / name).write_bytes(content)
        monkeypatch.setitem(backbone_weights.url_map, B0, f"https://example.invalid/a/{name}")
        return cache / name

    return put


def assert_one_line_naming(error: pytest.ExceptionInfo[UserError], *words: object) -> None:
    text = str(error.value)
    assert "\n" not in text
    for word in words:
        assert str(word) in text


# --- a file ---


@pytest.mark.parametrize("with_classifier", [True, False])
def test_a_file_fills_the_backbone_with_or_without_its_classifier(
    with_classifier: bool, state: State, tmp_path: Path
) -> None:
    saved = {n: t for n, t in state.items() if with_classifier or not n.startswith("_fc.")}
    assert (len(saved) == len(state)) == with_classifier
    torch.save(saved, tmp_path / "b0.pth")
    model = get_efficient_retinanet(3, B0, backbone_weights=str(tmp_path / "b0.pth"))
    assert_filled(model.backbone.body.network, state)


def test_a_file_of_a_resnet50_fills_the_baseline(tmp_path: Path) -> None:
    state = resnet50(weights=None).state_dict()
    torch.save(state, tmp_path / "resnet.pth")
    model = get_efficient_retinanet(3, "resnet50", backbone_weights=str(tmp_path / "resnet.pth"))
    assert_filled(model.backbone.body, state)


def assert_filled(network: nn.Module, state: State) -> None:
    loaded = network.state_dict()
    assert len(loaded) > 200
    for name, tensor in loaded.items():
        assert torch.equal(tensor, state[name]), name


def wrong_shape(state: State) -> State:
    return {**state, "_conv_stem.weight": torch.zeros(32, 1, 3, 3)}


def one_missing(state: State) -> State:
    return {n: t for n, t in state.items() if n != "_blocks.3._bn0.running_mean"}


def other_model(state: State) -> State:
    return EfficientNet.from_name("efficientnet-b1").state_dict()


@pytest.mark.parametrize("change", [wrong_shape, one_missing, other_model])
def test_weights_that_do_not_fit_are_an_error_that_names_file_model_and_tensor(
    change: Callable[[State], State], state: State, tmp_path: Path
) -> None:
    path = tmp_path / "other.pth"
    torch.save(change(state), path)
    with pytest.raises(UserError) as error:
        get_efficient_retinanet(3, B0, backbone_weights=str(path))
    assert_one_line_naming(error, path, B0, "first '_")


class NeedsCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize(
    "content",
    [[torch.zeros(2)], torch.zeros(2), {"a": 5}, {3: torch.zeros(2)}, None, {"state": NeedsCode()}],
    ids=["list", "tensor", "no-tensors", "no-names", "none", "code"],
)
def test_what_is_no_state_dict_is_an_error_that_names_the_file(
    content: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "foreign.pth"
    torch.save(content, path)
    with pytest.raises(UserError) as error:
        find_backbone_weights(B0, str(path))
    assert_one_line_naming(error, f"--backbone-weights {path}", "state dict")
    assert not (tmp_path / "executed").exists()


def test_a_file_that_torch_never_wrote_is_an_error_whatever_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    contents = [bytes([first]) + b"ello, world\n" for first in range(256)]
    contents += [b"", pickle.dumps({"a": 1})[:-3], pickle.dumps(NeedsCode())]
    for content in contents:
        path.write_bytes(content)
        with warnings.catch_warnings(), pytest.raises(UserError) as error:
            warnings.simplefilter("ignore")
            find_backbone_weights(B0, str(path))
        assert_one_line_naming(error, path)


def test_a_missing_file_is_an_error_that_lists_the_choices(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        find_backbone_weights(B0, str(tmp_path / "nowhere.pth"))
    assert_one_line_naming(error, tmp_path / "nowhere.pth", "auto, imagenet, none")


# --- ImageNet ---


@pytest.mark.parametrize("choice", ["imagenet", "auto"])
def test_imagenet_weights_come_from_the_cache_without_a_network(
    choice: str, in_cache: InCache, state: State
) -> None:
    in_cache()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weights = find_backbone_weights(B0, choice)
    assert weights.pretrained
    assert weights.origin == "ImageNet"
    assert weights.state is not None
    assert weights.state.keys() == {n for n in state if not n.startswith("_fc.")}


def test_a_damaged_file_in_the_cache_is_refused(in_cache: InCache) -> None:
    path = in_cache(damaged=True)
    with pytest.raises(UserError) as error:
        find_backbone_weights(B0, "imagenet")
    assert_one_line_naming(error, path, "damaged", "delete it")


def test_auto_says_that_the_file_in_the_cache_is_damaged_and_starts_from_random(
    in_cache: InCache,
) -> None:
    path = in_cache(damaged=True)
    with pytest.warns(UserWarning, match=f"{path.name} is damaged.*random weights") as caught:
        assert not find_backbone_weights(B0, "auto").pretrained
    assert len(caught) == 1


def test_imagenet_without_a_network_is_an_error_that_names_url_and_place(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise URLError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(UserError) as error:
        find_backbone_weights(B0, "imagenet")
    url = backbone_weights.url_map[B0]
    assert_one_line_naming(error, url, cache / url.rsplit("/", 1)[1], "--backbone-weights PATH")


@pytest.mark.parametrize("name", [B0, "resnet50"])
def test_a_download_is_checked_against_the_hash_in_its_name(
    name: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefixes: list[str | None] = []

    def download(url: str, path: str, hash_prefix: str | None = None) -> None:
        prefixes.append(hash_prefix)
        raise RuntimeError("invalid hash value")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(UserError):
        find_backbone_weights(name, "imagenet")
    (prefix,) = prefixes
    assert prefix is not None and len(prefix) == 8
    assert f"-{prefix}.pth" in backbone_weights.imagenet_url(name)


# --- auto and none ---


def test_auto_without_cache_and_network_warns_exactly_once_and_starts_from_random(
    cache: Path,
) -> None:
    with pytest.warns(UserWarning) as caught:
        weights = find_backbone_weights(B0, "auto")
    assert weights.state is None
    assert not weights.pretrained
    (warning,) = caught
    assert "random weights" in str(warning.message)
    assert "lower mAP" in str(warning.message)
    assert str(cache) in str(warning.message)


def test_auto_waits_for_a_silent_network_for_a_few_seconds_only(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeouts: list[float | None] = []

    def connect(address: Any, timeout: float | None = None, *args: Any, **kwargs: Any) -> None:
        timeouts.append(timeout)
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.warns(UserWarning, match="random weights"):
        find_backbone_weights(B0, "auto")
    (timeout,) = timeouts
    assert timeout is not None and 0 < timeout <= 10


def test_none_uses_neither_cache_nor_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: pytest.fail("looked into the cache"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_backbone_weights(B0, "none").state is None
