"""Monitoring a checkpoint from the command line."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.metrics import coco
from main import main
from model.checkpoint import load_checkpoint
from tests.data_sets import snapshot, write_cards
from tests.tiny_runs import error_line, monitor

pytestmark = pytest.mark.slow
Capture = pytest.CaptureFixture[str]


def test_monitor_needs_nothing_but_the_checkpoint(
    tiny_run: Path, capsys: Capture, tmp_path: Path
) -> None:
    flags = ("--precision", "fp32", "--output", str(tmp_path), "--cache-folder", "drawn")
    assert monitor(tiny_run / "best.pth", *flags) == 0
    out = capsys.readouterr().out
    assert "note      --cache-folder drawn has no effect" in out
    assert "the data set that the checkpoint remembers" in out
    assert "COCO summary" in out and "M parameters" in out
    assert re.search(r"queen.*\b0\b.*n/a", out), "a class without objects is n/a"
    assert re.search(r"[\d.]+ it/s", out)
    assert (tmp_path / "detections.png").is_file()
    measured = json.loads((tmp_path / "metrics.json").read_text())
    best = load_checkpoint(tiny_run / "best.pth").metrics["mAP"]
    assert measured["coco"]["AP IoU=0.50:0.95 area=all maxDets=100"] == pytest.approx(best)


def test_a_report_matches_detections_and_objects_once(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning validates, and the report needs more; a module begins with an empty one."""
    images: list[int] = []
    match = coco.match
    monkeypatch.setattr(
        coco,
        "match",
        lambda objects, *others: (
            images.append(len(np.unique(objects.image))) or match(objects, *others)
        ),
    )
    assert monitor(tiny_run / "best.pth", "--output", str(tmp_path)) == 0
    assert [count for count in images if count] == [4]


def test_the_class_list_is_one_in_training_checkpoint_and_validation(
    tiny_run: Path, capsys: Capture, tmp_path: Path
) -> None:
    assert monitor(tiny_run / "best.pth") == 0
    classes = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("classes"))
    assert "1 ace (3, 2), 2 king (3, 2), 3 queen (2, 0)" in classes
    assert load_checkpoint(tiny_run / "best.pth").description.class_names == (
        "ace",
        "king",
        "queen",
    )
    box = (4, 4, 30, 30)
    train = {"a.png": [("queen", *box)], "c.png": [("king", *box)]}
    other = write_cards(tmp_path / "other", train, {"b.png": [("king", *box)]})
    assert monitor(tiny_run / "best.pth", "-p", str(other)) == 0
    out = capsys.readouterr().out
    assert "1 ace (0, 0), 2 king (1, 1), 3 queen (1, 0)" in out and "has no ace" in out


def test_other_classes_than_the_checkpoints_are_refused_with_both_lists(
    tiny_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    dog = [("dog", 4, 4, 30, 30)]
    other = write_cards(tmp_path / "dogs", {"a.png": dog}, {"b.png": dog})
    assert monitor(tiny_run / "best.pth", "-p", str(other)) == 2
    line = error_line(capsys)
    assert "ace, king, queen" in line and "dog" in line


def test_a_data_set_that_is_gone_is_an_error_that_says_to_give_p(
    tiny_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    last = tmp_path / "last.pth"
    content = torch.load(tiny_run / "last.pth", weights_only=True)
    content["detector"]["data"]["path"] = str(tmp_path / "gone")
    torch.save(content, last)
    shutil.copy(tiny_run / "config.json", tmp_path)
    for flag in ("--load", "--resume"):
        assert main([flag, str(last), "-d", "cpu"]) == 2
        line = error_line(capsys)
        assert f"{flag} {last}" in line and str(tmp_path / "gone") in line and "-p" in line


@pytest.mark.parametrize(
    ("flag", "value", "trained"),
    [("-m", "efficientnet-b1", "efficientnet-b0"), ("--image-size", "128", "64")],
)
def test_a_flag_that_contradicts_the_checkpoint_names_both_values(
    tiny_run: Path, flag: str, value: str, trained: str, capsys: Capture
) -> None:
    assert monitor(tiny_run / "best.pth", flag, value) == 2
    line = error_line(capsys)
    assert value in line and trained in line


def test_another_data_set_has_a_report_of_its_own_and_none_is_written_into_the_data(
    tiny_run: Path, tiny_cards: Path, tmp_path: Path, capsys: Capture
) -> None:
    before_own = (tiny_run / "monitor-best" / "metrics.json").read_bytes()
    other = shutil.copytree(tiny_cards, tmp_path / "other")
    before = snapshot(other)
    assert monitor(tiny_run / "best.pth", "-p", str(other)) == 0
    assert (tiny_run / "monitor-best-other" / "report.html").is_file()
    assert (tiny_run / "monitor-best" / "metrics.json").read_bytes() == before_own
    inside = str(other / "report")
    assert monitor(tiny_run / "best.pth", "-p", str(other), "--output", inside) == 2
    assert "where nothing is ever written" in error_line(capsys)
    assert snapshot(other) == before


def test_a_csv_that_no_run_wrote_costs_the_curves_and_nothing_else(
    tiny_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    shutil.copy(tiny_run / "best.pth", tmp_path / "mine.pth")
    (tmp_path / "metrics.csv").write_text("step,accuracy\n1,high\n")
    assert monitor(tmp_path / "mine.pth") == 0
    assert "is not what a run writes" in capsys.readouterr().out
    assert (tmp_path / "monitor-mine" / "report.html").is_file()
