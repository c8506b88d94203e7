"""First weights of the backbone: a file, ImageNet's from the cache, or none; never a hang."""

from __future__ import annotations

import hashlib
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
from torch import Tensor
from torchvision.models import resnet50

from model.network import backbone_weights
from model.network.backbone_weights import find_backbone_weights
from tests.small_models import build
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
    # Nor lite0's weights, from which a b0 would start: see test_lite_weights.
    monkeypatch.setattr(backbone_weights, "packaged_file", lambda name: None)


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


def assert_refused(choice: object, *words: object) -> None:
    """In one line that holds the words."""
    with pytest.raises(UserError) as error:
        build(B0, backbone_weights=str(choice))
    text = str(error.value)
    assert "\n" not in text
    assert all(str(word) in text for word in words), text


# --- a file ---


@pytest.mark.parametrize("kind", ["b0", "b0 without classifier", "resnet50"])
def test_a_file_fills_the_backbone_with_or_without_its_classifier(
    kind: str, state: State, tmp_path: Path
) -> None:
    name, path = ("resnet50" if kind == "resnet50" else B0), tmp_path / "weights.pth"
    saved = resnet50(weights=None).state_dict() if name == "resnet50" else state
    if "without" in kind:
        saved = {n: t for n, t in state.items() if not n.startswith("_fc.")}
        assert len(saved) < len(state)
    torch.save(saved, path)
    body = build(name, backbone_weights=str(path)).backbone.body
    loaded = (body if name == "resnet50" else body.network).state_dict()
    assert len(loaded) > 200
    for name, tensor in loaded.items():
        assert torch.equal(tensor, saved[name]), name


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
    torch.save(change(state), tmp_path / "other.pth")
    assert_refused(tmp_path / "other.pth", tmp_path / "other.pth", B0, "first '_")


@pytest.mark.parametrize(
    "content", [[torch.zeros(2)], torch.zeros(2), {"a": 5}, {3: torch.zeros(2)}, None], ids=repr
)
def test_what_is_no_state_dict_is_an_error_that_names_the_file(
    content: Any, tmp_path: Path
) -> None:
    path = tmp_path / "foreign.pth"
    torch.save(content, path)
    assert_refused(path, f"--backbone-weights {path}", "state dict")


def test_a_file_that_torch_never_wrote_is_an_error_whatever_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    contents = [bytes([first]) + b"ello, world\n" for first in range(256)]
    for content in [*contents, b"", pickle.dumps({"a": 1})[:-3]]:
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert_refused(path, path)


def test_a_missing_file_is_an_error_that_lists_the_choices(tmp_path: Path) -> None:
    assert_refused(tmp_path / "nowhere.pth", tmp_path / "nowhere.pth", "auto, imagenet, none")


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


def test_a_damaged_file_in_the_cache_is_refused_and_auto_starts_from_random(
    in_cache: InCache,
) -> None:
    path = in_cache(damaged=True)
    assert_refused("imagenet", path, "damaged", "delete it")
    with pytest.warns(UserWarning, match=f"{path.name} is damaged.*random weights") as caught:
        assert not find_backbone_weights(B0, "auto").pretrained
    assert len(caught) == 1


def test_imagenet_without_a_network_is_an_error_that_names_url_and_place(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise URLError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    url = backbone_weights.url_map[B0]
    assert_refused("imagenet", url, cache / url.rsplit("/", 1)[1], "--backbone-weights PATH")


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


def test_auto_without_cache_and_with_a_silent_network_warns_once_after_a_few_seconds(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeouts: list[float | None] = []

    def connect(address: Any, timeout: float | None = None, *args: Any, **kwargs: Any) -> None:
        timeouts.append(timeout)
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.warns(UserWarning) as caught:
        weights = find_backbone_weights(B0, "auto")
    assert weights.state is None and not weights.pretrained
    (warning,) = caught
    for words in ("random weights", "lower mAP", str(cache)):
        assert words in str(warning.message)
    (timeout,) = timeouts
    assert timeout is not None and 0 < timeout <= 10


def test_none_uses_neither_cache_nor_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: pytest.fail("looked into the cache"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_backbone_weights(B0, "none").state is None
