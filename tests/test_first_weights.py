"""The weights that a run starts from, and the flags that they leave without an effect."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import trainer
from model.checkpoint import load_checkpoint
from model.network.backbone_weights import RANDOM_WEIGHTS, WEIGHTS_FOLLOW, BackboneWeights
from tests.tiny_runs import train, train_on

pytestmark = pytest.mark.slow
Capture = pytest.CaptureFixture[str]


def test_a_new_run_starts_from_the_weights_of_a_checkpoint(
    tiny_run: Path, tiny_cards: Path, tmp_path: Path, capsys: Capture
) -> None:
    flags = ["--epochs", "1", "--learning-rate", "1e-9", "--pretrained-backbone-factor", "0.5"]
    assert train_on(tiny_run / "best.pth", tiny_cards, tmp_path, *flags) == 0
    out = capsys.readouterr().out
    assert f"weights   from {tiny_run}" in out
    assert "--pretrained-backbone-factor 0.5 has no effect: the backbone's weights are not" in out
    old = load_checkpoint(tiny_run / "best.pth").weights
    new = load_checkpoint(tmp_path / "run" / "best.pth").weights
    name = "backbone.body.network._conv_head.weight"
    assert torch.allclose(old[name], new[name], atol=1e-6)
    assert not (tmp_path / "run" / "crop_pretraining.json").exists()


@pytest.mark.parametrize(
    ("weights", "crops", "noted"),
    [
        (WEIGHTS_FOLLOW, "1steps", []),
        (RANDOM_WEIGHTS, "1steps", ["--trainable-layers 3"]),
    ],
)
def test_a_flag_that_the_weights_of_auto_leave_without_effect_is_noted(
    weights: BackboneWeights,
    crops: str,
    noted: list[str],
    tiny_cards: Path,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trainer, "find_backbone_weights", lambda *_: weights)
    flags = ["--epochs", "1", "--backbone-weights", "auto", "--trainable-layers", "3"]
    assert train(tiny_cards, tmp_path, *flags, crops=crops) == 0
    assert re.findall(r"^note +(--.*) has no effect", capsys.readouterr().out, re.M) == noted
