"""The monitor of a checkpoint on a data set that it was not trained on."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader
from torchvision.models.detection import RetinaNet

import monitor
from data.dataset import Dataset, DataSplits
from evaluation.metrics.coco import CocoEvaluation
from model.checkpoint import DetectorDescription, write_whole
from model.lightning_trainer import DetectorModule
from tests.data_sets import write_cards
from tests.evaluation.diagnosis.planted import results_of
from utils.config import Config

NAMES = ("ace", "king")


@pytest.fixture
def foreign_cards(tmp_path: Path) -> Path:
    pictures = {f"{i}.png": [(NAMES[i % 2], 8, 8, 40, 44)] for i in range(12)}
    return write_cards(tmp_path / "cards", pictures, pictures)


def detect_at(score: float) -> Any:
    """In place of ``measure``: a detector that finds every object, all with this score."""

    def measure(model: RetinaNet, loader: DataLoader, *_: Any) -> DetectorModule:
        dataset: Dataset = loader.dataset
        module = DetectorModule(model, NAMES)
        results = results_of(DataSplits(dataset, dataset, "drawn"), score=score)
        module.evaluation = CocoEvaluation(results, NAMES)
        return module

    return measure


@pytest.mark.parametrize(
    ("requested", "stored", "shown"),
    [(None, 0.33, "0.33"), (0.41, 0.33, "0.41"), (None, None, "0.50")],
)
def test_every_place_of_a_report_shows_the_same_threshold(
    foreign_cards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    requested: float | None,
    stored: float | None,
    shown: str,
) -> None:
    """It is the one that prediction uses, though another one is the best on these images."""
    description = DetectorDescription("efficientnet-b0", NAMES, 64, anchor_scale=0.25)
    checkpoint = {
        "detector": description.as_plain(),
        "weights": description.build().state_dict(),
        "score_threshold": stored,
    }
    write_whole(checkpoint, tmp_path / "best.pth")
    monkeypatch.setattr(monitor, "measure", detect_at(0.2))
    config = Config(
        load=str(tmp_path / "best.pth"),
        path=str(foreign_cards),
        output=str(tmp_path / "report"),
        score_threshold=requested,
        device="cpu",
    )
    monitor.launch(config)
    out = capsys.readouterr().out
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    numbers = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert f"at score {shown})" in out and "pycocotools: equal" in out
    assert "No detection passes the score threshold" in numbers["diagnosis"][0]["title"]
    in_use = [numbers["at_threshold"]["threshold"], numbers["measured"]["threshold"]["value"]]
    in_use += re.findall(r"threshold in use,? (0\.\d+)", out + page)
    places = re.findall(r"(?:[Dd]etections from|,? at) score (0\.\d+)|At (0\.\d+): prec", page)
    assert len(places) > 4, places
    in_use += ["".join(place) for place in places]
    assert {f"{float(value):.2f}" for value in in_use} == {shown}
    assert numbers["recommended_score_threshold"] == 0.12
