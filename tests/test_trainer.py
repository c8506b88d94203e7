"""Training from the command line: what a run leaves, and how it goes on."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from main import configure, main
from model.checkpoint import load_checkpoint
from model.lightning_trainer import DetectorModule
from model.network.retinanet import BatchedRetinaNet
from tests.data_sets import snapshot
from tests.tiny_runs import FAST, NEW, error_line, monitor, rows_of, train, train_on
from utils import hardware

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("sigint_as_before")]
Capture = pytest.CaptureFixture[str]


# --- what a run leaves ---


def test_a_run_leaves_everything_the_design_promises(tiny_run: Path) -> None:
    names = {path.name for path in tiny_run.iterdir()}
    assert names >= {"config.json", "best.pth", "last.pth", "metrics.csv", "crop_pretraining.json"}
    assert list(tiny_run.glob("events.out.tfevents.*"))
    for picture in ("curves.png", "detections.png"):
        pixels = np.asarray(Image.open(tiny_run / picture).convert("RGB"))
        assert pixels.shape[0] > 100 and pixels.std() > 5
    rows = rows_of(tiny_run)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(float(row["loss"]) > 0 and 0 <= float(row["mAP"]) <= 1 for row in rows)
    assert json.loads((tiny_run / "crop_pretraining.json").read_text())["steps"] == 2
    saved = json.loads((tiny_run / "config.json").read_text())
    assert saved["epochs"] == 2 and saved["crop_pretraining"] == "2 steps"


def test_tensorboard_shows_losses_rate_and_map(tiny_run: Path) -> None:
    events = EventAccumulator(str(tiny_run))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert tags >= {"loss", "loss_classification", "loss_bbox_regression", "learning_rate"}
    assert tags >= {"val_loss", "mAP", "mAP50", "mAP75"}
    shown = [event.value for event in events.Scalars("mAP")]
    assert shown == pytest.approx([float(row["mAP"]) for row in rows_of(tiny_run)])


def test_a_run_ends_with_the_report_of_its_best_epoch(tiny_run: Path) -> None:
    folder = tiny_run / "monitor-best"
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "data:image/png" in page and "ace" in page
    for name in ("precision_recall", "thresholds", "confusion", "sizes", "curves", "detections"):
        assert np.asarray(Image.open(folder / f"{name}.png").convert("RGB")).std() > 5, name
    measured = json.loads((folder / "metrics.json").read_text())
    best = load_checkpoint(tiny_run / "best.pth")
    assert measured["coco"]["AP IoU=0.50:0.95 area=all maxDets=100"] == best.metrics["mAP"]
    assert measured["recommended_score_threshold"] == best.score_threshold
    assert measured["diagnosis"]
    assert best.training["steps"] == 2 * best.epoch and best.training["images"] == 8


def test_both_checkpoints_are_plain_tensors_and_values_and_describe_their_training(
    tiny_run: Path,
) -> None:
    for name in ("best.pth", "last.pth"):
        content = torch.load(tiny_run / name, weights_only=True)
        assert content["detector"]["class_names"] == ["ace", "king", "queen"]
        assert "score_threshold" in content
        assert load_checkpoint(tiny_run / name).build_model()
    last = load_checkpoint(tiny_run / "last.pth").training
    assert last["steps"] == last["planned_steps"] == 4
    assert last["images"] == 8 and last["learning_rate"] == 1e-3


def test_a_run_that_learns_nothing_says_why_and_overfitting_gives_its_verdict(
    tiny_cards: Path, tmp_path: Path, capsys: Capture
) -> None:
    nothing = ["--epochs", "2", "--overfit", "2", "--learning-rate", "1e-9", "--batch-size", "1"]
    assert train(tiny_cards, tmp_path, *nothing) == 0
    explained, end = capsys.readouterr().out.split("epoch     2/2")
    assert "diagnosis why mAP is low, the most likely cause first:" in explained
    assert re.search(r"^ +1\. .*learning rate", explained, re.MULTILINE)
    assert re.search(r"^ +level 1, stride 8: ", explained, re.MULTILINE)
    assert re.search(r"^overfit +too short to tell: .* after 52 steps", end, re.MULTILINE)
    assert re.search(r"^diagnosis 1\. ", end, re.MULTILINE)


def test_the_data_set_is_never_touched_and_no_run_is_written_into_it(
    tiny_cards: Path, tmp_path: Path, capsys: Capture
) -> None:
    before = snapshot(tiny_cards)
    assert train(tiny_cards, tmp_path, "--epochs", "1") == 0
    assert monitor(tmp_path / "run" / "best.pth") == 0
    assert train(tiny_cards, tiny_cards / "runs", "--epochs", "1") == 2
    assert "where nothing is ever written" in error_line(capsys)
    assert train(tiny_cards, tmp_path / "other", "--validation-fraction", "0.2") == 2
    assert "--validation-fraction 0.2: the data set" in error_line(capsys)
    assert snapshot(tiny_cards) == before and not (tiny_cards / "runs").exists()


# --- how it computes ---


def test_a_run_with_and_without_cache_ends_with_the_same_weights(
    tiny_cards: Path, tmp_path: Path, capsys: Capture
) -> None:
    weights = []
    for cache in ("True", "False"):
        assert train(tiny_cards, tmp_path / cache, "--epochs", "1", "--cache", cache) == 0
        assert ("stay in memory" in capsys.readouterr().out) == (cache == "True")
        weights.append(load_checkpoint(tmp_path / cache / "run" / "best.pth").weights)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_compile_reaches_the_network_that_trains_and_its_failure_is_one_line(
    tiny_cards: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []
    error = type("InductorError", (RuntimeError,), {"__module__": "torch._inductor.exc"})

    def broken(model: BatchedRetinaNet) -> None:
        compiled.append(model)
        model.backbone.forward = fail

    def fail(*arguments: object) -> None:
        raise error("no compiler")

    monkeypatch.setattr(BatchedRetinaNet, "compile_network", broken)
    assert train(tiny_cards, tmp_path, "--epochs", "1", "--compile", "True") == 2
    line = error_line(capsys)
    assert len(compiled) == 1 and "--compile" in line and "no compiler" in line


def test_the_guard_without_a_card_warns_once_and_training_goes_on(
    tiny_cards: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert train(tiny_cards, tmp_path, "--epochs", "1", "-g", "yes") == 0
    out = capsys.readouterr().out
    assert any(x.startswith("guard") and "unknown" in x for x in out.splitlines())
    assert (tmp_path / "run" / "best.pth").is_file()


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_files(
    tiny_cards: Path, tmp_path: Path, capsys: Capture
) -> None:
    flags = ["--epochs", "30", "--learning-rate", "1e20", "--gradient-clip", "0"]
    assert train(tiny_cards, tmp_path, *flags) == 2
    line = error_line(capsys)
    assert "no longer finite" in line and str(tiny_cards / "train" / "t") in line


def test_a_damaged_image_is_one_line_that_names_it_also_from_a_worker(
    tiny_cards: Path, tmp_path: Path, capsys: Capture
) -> None:
    damaged = shutil.copytree(tiny_cards, tmp_path / "cards")
    image = damaged / "train" / "t3.png"
    image.write_bytes(image.read_bytes()[:60])
    assert train(damaged, tmp_path, "--epochs", "1", "-w", "1") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"error: {damaged}: 1 image(s) that cannot be read: train/t3.png: ")
    flags = ("--epochs", "1", "-w", "1", "--on-bad-image", "skip")
    assert train(damaged, tmp_path / "runs", *flags) == 0
    assert "7 training images" in (out := capsys.readouterr().out) and "t3.png" in out
    checkpoint = load_checkpoint(next((tmp_path / "runs").glob("*/best.pth")))
    assert checkpoint.description.data["skip_bad_images"]


# --- how it goes on ---


def test_an_interrupted_run_resumes_to_the_very_same_weights(
    tiny_cards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert train(tiny_cards, tmp_path / "whole", "--epochs", "2") == 0
    start = DetectorModule.on_train_batch_start

    def interrupted(self: DetectorModule, batch: object, batch_idx: int) -> None:
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        start(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(DetectorModule, "on_train_batch_start", interrupted)
        assert train(tiny_cards, tmp_path / "broken", "--epochs", "2") == 130
    whole, broken = tmp_path / "whole" / "run", tmp_path / "broken" / "run"
    assert f"--resume {broken}" in capsys.readouterr().out
    assert [row["epoch"] for row in rows_of(broken)] == ["1"]

    assert main(["--resume", str(broken)]) == 0
    assert [r["loss"] for r in rows_of(broken)] == [r["loss"] for r in rows_of(whole)]
    ours, theirs = (torch.load(run / "last.pth", weights_only=True) for run in (broken, whole))
    for part in ("weights", "state_dict"):
        for name, value in theirs[part].items():
            assert torch.equal(value, ours[part][name]), name


def test_a_run_that_was_extended_remembers_it_and_validates_its_last_epoch(
    tiny_cards: Path, tmp_path: Path
) -> None:
    assert train(tiny_cards, tmp_path, "--epochs", "1", "--val-every", "5") == 0
    run = tmp_path / "run"
    saved = json.loads((run / "config.json").read_text())
    assert saved["validation_fraction"] == 0.2
    # As of a run whose --backbone-weights auto found none: all layers train.
    (run / "config.json").write_text(json.dumps({**saved, "trainable_layers": 3}))
    assert main(["--resume", str(run), "--epochs", "2"]) == 0
    assert [row["epoch"] for row in rows_of(run)] == ["1", "2"]
    assert all(row["mAP"] for row in rows_of(run))
    resumed = json.loads((run / "config.json").read_text())
    assert resumed["epochs"] == 2 and Path(resumed["path"]).samefile(tiny_cards)
    assert main(["--resume", str(run)]) == 0


def test_a_run_goes_on_in_the_precision_that_auto_chose(
    tiny_cards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = iter(["bf16", "fp32"])
    monkeypatch.setattr(hardware, "choose_precision", lambda *_: next(chosen))
    assert train(tiny_cards, tmp_path, "--epochs", "1", "--precision", "auto") == 0
    run = tmp_path / "run"
    assert json.loads((run / "config.json").read_text())["precision"] == "bf16"
    assert configure({"resume": str(run), "epochs": 2})[1].precision == "bf16"


def test_a_flag_that_repeats_a_run_s_value_is_taken_and_another_value_refused(
    tiny_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    """The image size of a run that started from a checkpoint's weights is the checkpoint's."""
    size = NEW[NEW.index("--image-size") + 1]
    cards = load_checkpoint(tiny_run / "best.pth").description.data["path"]
    assert train_on(tiny_run / "best.pth", Path(cards), tmp_path, "--epochs", "1") == 0
    for run in (tiny_run, tmp_path / "run"):
        for flag, value, old in (
            ("--learning-rate", "0.5", "0.001"),
            ("--image-size", "128", size),
            ("--model", "efficientnet-b1", "efficientnet-b0"),
        ):
            assert main(["--resume", str(run), flag, value]) == 2
            line = error_line(capsys)
            assert f"{flag} {value}" in line and old in line and "None" not in line
    assert main(["--resume", str(run), "--image-size", size]) == 0


def test_best_pth_and_fewer_epochs_cannot_be_resumed_and_say_why(
    tiny_run: Path, capsys: Capture
) -> None:
    assert main(["--resume", str(tiny_run / "best.pth")]) == 2
    assert "last.pth" in error_line(capsys)
    assert main(["--resume", str(tiny_run), "--epochs", "1"]) == 2
    assert "has done 2 epochs" in error_line(capsys)


def test_the_real_cards_train_for_an_epoch_and_are_monitored(
    cards_dir: Path, tmp_path: Path, capsys: Capture
) -> None:
    flags = ["--epochs", "1", "--batch-size", "32"]
    assert train(cards_dir, tmp_path, *FAST, *flags, crops="2steps") == 0
    assert monitor(tmp_path / "run" / "best.pth", "-p", str(cards_dir)) == 0
    out = capsys.readouterr().out
    assert "296 training images (527 objects), 67 validation images (143 objects)" in out
    assert "1 ace" in out
