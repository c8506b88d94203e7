"""The benchmark measures what it claims, and shows no ratio where results differ."""

from __future__ import annotations

import csv
import json
import math
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import RetinaNet

import main
from benchmarks import other_works, peers, speed, tables
from benchmarks.agreement import detection_difference
from benchmarks.memory import Case, peak_gigabytes
from benchmarks.same_weights import copy_weights, mirrored
from benchmarks.tables import Row
from benchmarks.timing import interleaved
from tests.data_sets import ACE, KING, write_cards

SIZE = (64, 96)
PICTURES = {f"{i}.png": [ACE, KING] for i in range(3)}


@pytest.fixture(scope="module")
def pictures() -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.rand(3, *SIZE) for _ in range(2)]


@pytest.fixture(scope="module")
def pair(pictures: list[Tensor]) -> tuple[RetinaNet, RetinaNet]:
    ours = peers.our_b0(max(SIZE), pictures, None)
    return ours, peers.reference_b0(ours, max(SIZE))


@torch.no_grad()
def test_the_reference_with_our_weights_has_our_features_and_detections(
    pair: tuple[RetinaNet, RetinaNet], pictures: list[Tensor]
) -> None:
    ours, reference = pair
    batch = ours.transform(pictures)[0].tensors
    expected = ours.backbone.body(batch)
    for name, features in mirrored(reference).backbone.body(batch).items():
        torch.testing.assert_close(features, expected[name], rtol=1e-4, atol=1e-4)
    scores, boxes = detection_difference(ours(pictures), mirrored(reference)(pictures))
    assert sum(len(d["scores"]) for d in ours(pictures)) > 20
    assert scores < 1e-5 and boxes < 1e-2
    assert detection_difference(ours(pictures), reference(pictures))[1] > 1, "without the mirror"


def test_a_reference_of_another_shape_is_refused(pair: tuple[RetinaNet, RetinaNet]) -> None:
    with pytest.raises(ValueError, match="shape"):
        copy_weights(peers.get_efficient_retinanet(7, "efficientnet-b1"), pair[1])


def detection(*scores: float, shift: float = 0.0, label: int = 1) -> dict[str, Tensor]:
    corners = torch.arange(len(scores))[:, None] * 50.0 + shift
    boxes = torch.cat([corners, corners, corners + 9, corners + 9], dim=1)
    labels = torch.full((len(scores),), label)
    return {"boxes": boxes, "scores": torch.tensor(scores), "labels": labels}


def test_the_greatest_difference_is_that_of_the_worst_detection() -> None:
    one = [detection(0.9, 0.5), detection()]
    assert detection_difference(one, one) == (0, 0)
    shifted = [detection(0.9, 0.4, shift=0.25), detection()]
    assert detection_difference(shifted, one) == (pytest.approx(0.1), 0.25)
    for other in (detection(0.9), detection(0.9, 0.5, label=2)):
        assert detection_difference([other, detection()], one)[1] == float("inf")


def test_every_round_runs_each_work_once_and_the_first_rounds_are_not_counted() -> None:
    order: list[str] = []
    times = iter([0] * 4 + [0, 1, 0, 10, 0, 3, 0, 30, 0, 2, 0, 20])
    works = {name: lambda name=name: order.append(name) for name in ("a", "b")}
    assert interleaved(works, 3, clock=lambda: next(times)) == {"a": 2, "b": 20}
    assert order == ["a", "b"] * 5


ROWS = [
    Row("inference, batch 1", peers.REFERENCE, 2.0, 1.0),
    Row("inference, batch 1", "ours", 1.0, 2.0, "scores 1e-07", True),
    Row("training", "ours", 1.0, 3.0, "losses 2e-01", False),
]


def test_every_row_is_in_the_json_and_in_the_tables_without_a_ratio_if_it_differs() -> None:
    assert "2.00" in ROWS[1].cells
    assert "NOT EQUAL" in ROWS[2].cells and "3.00" not in ROWS[2].cells
    plain = json.loads(tables.as_json(ROWS, tables.facts("random")))
    assert [row["candidate"] for row in plain["rows"]] == [row.candidate for row in ROWS]
    text = tables.as_markdown(ROWS, tables.facts("random"))
    for row in ROWS:
        assert "| " + " | ".join(row.cells[1:]) + " |" in text
    for fact in ("torch " + version("torch"), "threads", "commit", "random"):
        assert fact in text
    assert ("GPU: not part of this run" in text) == (not torch.cuda.is_available())


def test_new_tables_replace_the_old_ones_and_leave_what_stands_above(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text("# Speed\n\nBy hand.\n\n" + tables.MARK + "old\n")
    for _ in range(2):
        tables.write_below_mark("new\n", file)
    assert file.read_text() == "# Speed\n\nBy hand.\n\n" + tables.MARK + "new\n"
    tables.write_below_mark("new\n", tmp_path / "other.md")
    assert (tmp_path / "other.md").read_text() == tables.MARK + "new\n"


def test_both_scorers_give_the_same_numbers() -> None:
    official, ours = (work() for work in other_works.scorers(20, classes=3).values())
    assert official == pytest.approx(ours, abs=1e-12) and 0.02 < ours[0] < 0.98


def test_the_loader_of_the_original_and_ours_give_the_same_images(tmp_path: Path) -> None:
    write_cards(tmp_path, PICTURES, PICTURES)
    epochs = [load() for load in list(other_works.loaders(tmp_path).values())[:3]]
    for epoch in epochs[1:]:
        for (images, targets), (others, truths) in zip(epoch, epochs[0], strict=True):
            assert all(map(torch.equal, images, others))
            for one, other in zip(targets, truths, strict=True):
                assert one["boxes"].tolist() == other["boxes"].tolist()
                assert one["labels"].tolist() == other["labels"].tolist()


@pytest.mark.slow
def test_it_runs_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cards = tmp_path / "cards"
    write_cards(cards, PICTURES, PICTURES)
    file = tmp_path / "rows.json"
    arguments = f"--cards {cards} --device cpu --only inference,training,map --json {file}"
    arguments += " --image-size 64 --batches 2 --training-batches 1,2 --repeats 1"
    assert speed.main([*arguments.split(), "--images-to-score", "10"]) == 0
    rows = json.loads(file.read_text())["rows"]
    ours = [row for row in rows if row["candidate"].startswith("ours")]
    works = {row["work"].split(",")[0] for row in ours}
    assert works == {"Inference", "Training", "mAP of 10 images"}
    assert all(row["is_equal"] and row["value"] > 0 for row in rows)


@pytest.mark.slow
def test_the_map_of_a_checkpoint_is_measured_in_both_precisions(tmp_path: Path) -> None:
    cards = write_cards(tmp_path / "cards", PICTURES, PICTURES)
    flags = f"-t True -p {cards} -d cpu -w 0 --precision fp32 --backbone-weights none --epochs 1"
    flags += f" --image-size 64 --anchor-scale 0.25 --crop-pretraining off --output {tmp_path}"
    assert main.main([*flags.split(), "--name", "run"]) == 0
    checkpoint = tmp_path / "run" / "best.pth"
    file = tmp_path / "rows.json"
    arguments = ["--cards", str(cards), "--device", "cpu", "--bf16", "--only", "accuracy"]
    assert speed.main([*arguments, "--checkpoint", str(checkpoint), "--json", str(file)]) == 0
    rows = {row["candidate"]: row for row in json.loads(file.read_text())["rows"]}
    with open(checkpoint.with_name("metrics.csv"), newline="") as metrics:
        expected = float(next(csv.DictReader(metrics))["mAP"])
    assert rows["ours b0, fp32"]["value"] == pytest.approx(expected, abs=1e-4)
    gap = abs(rows["ours b0, bf16"]["value"] - rows["ours b0, fp32"]["value"])
    assert rows["ours b0, bf16"]["is_equal"] == (gap <= speed.SAME_MAP)
    assert speed.main([*arguments, "--json", str(file)]) == 0
    assert json.loads(file.read_text())["rows"] == []


@pytest.mark.slow
def test_peak_memory_grows_with_the_batch_and_is_nan_on_a_failure(tmp_path: Path) -> None:
    cards = write_cards(tmp_path / "cards", PICTURES, PICTURES)
    small, large = (
        peak_gigabytes(peers.REFERENCE, Case("inference", SIZE, batch, cards)) for batch in (1, 64)
    )
    # The images of the larger batch alone take 5 MB, and its stem 25 MB.
    assert 0 < small + 0.03 < large < 3
    assert math.isnan(peak_gigabytes(peers.REFERENCE, Case("inference", SIZE, 1, tmp_path)))


@pytest.mark.parametrize(
    ("flag", "value", "words"),
    [
        ("--cards", "nowhere", "no such folder; give the real photographs"),
        ("--checkpoint", "nowhere.pth", "no such file"),
        ("--device", "cuda", "no usable card"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    flag: str, value: str, words: str, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert speed.main(["--cards", str(tmp_path), flag, value]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {flag} {value}") and words in line
