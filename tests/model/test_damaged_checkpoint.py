"""Checkpoints that cannot be loaded: one readable line."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model.checkpoint import FORMAT_VERSION, load_checkpoint, refuse_to_resume
from model.network.backbone_weights import find_backbone_weights
from tests.small_models import DESCRIPTION
from utils.errors import UserError

PLAIN = DESCRIPTION.as_plain()
SMALL: dict[str, Any] = {
    "detector": PLAIN,
    "weights": {"a": torch.ones(3)},
    "epoch": 4,
    "metrics": {"mAP": 0.5},
}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    torch.save(SMALL, tmp_path / "small.pth")
    return tmp_path / "small.pth"


def error_of(path: Path) -> str:
    with pytest.raises(UserError) as error:
        load_checkpoint(path).build_model()
    text = str(error.value)
    assert str(path) in text
    assert "\n" not in text
    return text


def test_a_truncated_file_is_an_error_wherever_it_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "cut.pth"
    for zipped in (True, False):
        torch.save(SMALL, path, _use_new_zipfile_serialization=zipped)
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


FOREIGN = [{"conv1.weight": torch.zeros(3)}, {"state_dict": {}, "epoch": 3}, {"detector": {}}]
FOREIGN += [[1, 2], torch.zeros(3), None, "text"]
# Values of the wrong kind or without sense.
ODD: dict[str, list[Any]] = {
    "detector": [5],
    "class_names": ["ace", [1, 2], ["ace", "ace"], ["", "king"], ["half\udcff", "king"]],
    "image_size": ["64", 10**9, -64],
    "anchor_scale": [None, float("nan"), [1]],
    "image_std": [[float("nan"), 1.0, 1.0], [1.0, float("inf"), 1.0], [1.0, 1.0, 0.0]],
    "data": ["cards"],
    "weights": [None, [1], {"a": 5}],
    "epoch": ["last", float("inf"), torch.zeros(3)],
    "metrics": ["good"],
    "score_threshold": [7, "high"],
    "training": [3, {"steps": torch.zeros(3)}, {"steps": 10**400}],
}


@pytest.mark.parametrize("place", ["everything", *ODD])
def test_what_does_not_describe_a_detector_is_an_error(place: str, tmp_path: Path) -> None:
    for value in ODD.get(place, FOREIGN):
        content = {**SMALL, place: value}
        if place in PLAIN:
            content = {**SMALL, "detector": {**PLAIN, place: value}}
        torch.save(value if place == "everything" else content, tmp_path / "a.pth")
        assert "does not describe a detector" in error_of(tmp_path / "a.pth"), value


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": FORMAT_VERSION + 1}, "newer version"),
        ({"format": FORMAT_VERSION + 1, "field_of_tomorrow": 1}, "newer version"),
        ({"model_name": "vgg"}, "--model vgg: expected one of efficientnet-b0"),
    ],
)
def test_a_newer_format_and_an_unknown_model_are_errors(
    change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    torch.save({**SMALL, "detector": {**PLAIN, **change}}, tmp_path / "a.pth")
    assert words in error_of(tmp_path / "a.pth")


def lost(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return dict(list(weights.items())[1:])


def cut(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor[:1] if tensor.ndim else tensor for name, tensor in weights.items()}


@pytest.mark.parametrize("damage", [lost, cut])
def test_damaged_weights_are_an_error(damage: Any, tmp_path: Path) -> None:
    weights = damage(DESCRIPTION.build().state_dict())
    torch.save({**SMALL, "weights": weights}, tmp_path / "a.pth")
    assert "efficientnet-b0 it describes" in error_of(tmp_path / "a.pth")


def test_a_missing_file_and_a_folder_are_errors(tmp_path: Path) -> None:
    assert "no such file" in error_of(tmp_path / "nowhere.pth")
    assert "is a folder" in error_of(tmp_path)
