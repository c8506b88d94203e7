"""Checkpoints that cannot be loaded: one readable line, and no code that runs."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model.checkpoint import (
    FORMAT_VERSION,
    DetectorDescription,
    load_checkpoint,
    refuse_to_resume,
)
from model.network.backbone_weights import find_backbone_weights
from tests.small_models import SIDE
from utils.errors import UserError

DESCRIPTION = DetectorDescription(
    model_name="efficientnet-b0",
    class_names=("ace", "king"),
    image_size=SIDE,
    anchor_scale=0.25,
    data={"path": "/cards", "seed": 3},
)


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    """Of a best.pth."""
    return {
        "detector": DESCRIPTION.as_plain(),
        "weights": DESCRIPTION.build().state_dict(),
        "epoch": 4,
        "metrics": {"mAP": 0.5},
    }


class NeedsCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


def error_of(path: Path) -> str:
    with pytest.raises(UserError) as error:
        load_checkpoint(path).build_model()
    text = str(error.value)
    assert str(path) in text
    assert "\n" not in text
    return text


def test_a_pickle_that_needs_code_is_refused_and_not_run(
    content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pth"
    torch.save({**content, "weights": {}, "metrics": NeedsCode()}, path)
    error_of(path)
    path.write_bytes(pickle.dumps(NeedsCode()))
    error_of(path)
    assert not (tmp_path / "executed").exists()


def test_a_truncated_file_is_an_error_wherever_it_was_cut(
    content: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "cut.pth"
    for zipped in (True, False):
        small = {**content, "weights": {"a": torch.rand(3)}}
        torch.save(small, path, _use_new_zipfile_serialization=zipped)
        whole = path.read_bytes()
        for length in range(0, len(whole) - 1, 37):
            path.write_bytes(whole[:length])
            assert "best.pth or last.pth" in error_of(path)


def packed(source: Path, target: Path, method: int) -> Path:
    """A PyTorch file whose parts are written once more, with a megabyte of blanks in its pickle."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", method) as new:
        for part in old.infolist():
            pickled = part.filename.endswith("data.pkl")
            new.writestr(part.filename, old.read(part) + bytes(2**20) * pickled)
    return target


@pytest.fixture
def small(content: dict[str, Any], tmp_path: Path) -> Path:
    torch.save({**content, "weights": {"a": torch.rand(3)}}, tmp_path / "small.pth")
    return tmp_path / "small.pth"


def test_compressed_parts_are_refused_before_they_are_unpacked(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_checkpoint(packed(small, tmp_path / "stored.pth", zipfile.ZIP_STORED))
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("unpacked"))
    bomb = packed(small, tmp_path / "bomb.pth", zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 10_000
    assert "its parts are compressed, which PyTorch never writes" in error_of(bomb)
    with pytest.raises(UserError, match="--resume .*its parts are compressed"):
        refuse_to_resume(bomb, 9)
    with pytest.raises(UserError, match="--backbone-weights .*its parts are compressed"):
        find_backbone_weights("efficientnet-b0", str(bomb))


def test_parts_that_say_to_be_larger_than_their_file_are_refused(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytearray(small.read_bytes())
    entry = content.index(b"PK\x01\x02")  # the directory's first entry
    content[entry + 24 : entry + 28] = (2**31).to_bytes(4, "little")  # its unpacked size
    small.write_bytes(content)
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("unpacked"))
    assert "its parts are compressed" in error_of(small)


@pytest.mark.parametrize(
    "foreign",
    [
        {"conv1.weight": torch.zeros(3)},
        {"state_dict": {}, "epoch": 3},
        {"detector": 5},
        {"detector": {}},
        [1, 2],
        torch.zeros(3),
        None,
        "text",
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_foreign_file_is_an_error_that_says_what_to_give(foreign: Any, tmp_path: Path) -> None:
    torch.save(foreign, tmp_path / "foreign.pth")
    assert "does not describe a detector" in error_of(tmp_path / "foreign.pth")


@pytest.mark.parametrize(
    "damage",
    [
        {"epoch": "last"},
        {"metrics": "good"},
        {"weights": [1]},
        {"weights": None},
        {"score_threshold": 7},
        {"score_threshold": "high"},
        {"training": 3},
        {"detector": DESCRIPTION.as_plain() | {"anchor_scale": None}},
    ],
    ids=lambda value: next(iter(value)),
)
def test_values_of_the_wrong_kind_are_an_error(
    damage: dict[str, Any], content: dict[str, Any], tmp_path: Path
) -> None:
    torch.save({**content, **damage}, tmp_path / "a.pth")
    assert "does not describe a detector" in error_of(tmp_path / "a.pth")


@pytest.mark.parametrize("extra", [{}, {"field_of_tomorrow": 1}])
def test_a_newer_format_is_an_error_that_says_to_update(
    extra: dict[str, int], content: dict[str, Any], tmp_path: Path
) -> None:
    detector = {**content["detector"], "format": FORMAT_VERSION + 1, **extra}
    torch.save({**content, "detector": detector}, tmp_path / "a.pth")
    assert "newer version" in error_of(tmp_path / "a.pth")


def lost(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return dict(list(weights.items())[1:])


def cut(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor[:1] if tensor.ndim else tensor for name, tensor in weights.items()}


@pytest.mark.parametrize("damage", [lost, cut])
def test_damaged_weights_are_an_error(damage: Any, content: dict[str, Any], tmp_path: Path) -> None:
    torch.save({**content, "weights": damage(content["weights"])}, tmp_path / "a.pth")
    assert "efficientnet-b0 it describes" in error_of(tmp_path / "a.pth")


def test_an_unknown_model_is_an_error(content: dict[str, Any], tmp_path: Path) -> None:
    detector = {**content["detector"], "model_name": "vgg"}
    torch.save({**content, "detector": detector}, tmp_path / "a.pth")
    error_of(tmp_path / "a.pth")


def test_a_missing_file_and_a_folder_are_errors(tmp_path: Path) -> None:
    assert "no such file" in error_of(tmp_path / "nowhere.pth")
    assert "is a folder" in error_of(tmp_path)
