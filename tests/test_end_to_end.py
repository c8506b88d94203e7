"""The program from its command line: train, monitor, resume, and what a user may do wrong."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from evaluation.metrics import coco as metrics
from main import main, read_config
from model.checkpoint import load_checkpoint
from model.lightning_trainer import DetectorModule
from model.network.retinanet import BatchedRetinaNet
from tests.conftest import ROOT
from tests.data_sets import write_cards
from utils import hardware

TINY = ["-d", "cpu", "-w", "0", "--precision", "fp32", "--batch-size", "4"]
TINY += ["--backbone-weights", "none", "--image-size", "64", "--anchor-scale", "0.25"]


@pytest.fixture(autouse=True)
def sigint_as_before() -> Iterator[None]:
    """Lightning leaves SIGINT ignored after an interrupt."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight training and four validation pictures; validation has no queen."""
    folder = tmp_path_factory.mktemp("data") / "cards"
    names = ("ace", "king", "queen")
    train = {f"t{i}.png": [(names[i % 3], 8, 8, 40, 44)] for i in range(8)}
    test = {f"v{i}.png": [(names[i % 2], 10, 6, 44, 40)] for i in range(4)}
    write_cards(folder, train, test)
    return folder


@pytest.fixture(scope="module")
def run(cards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two epochs."""
    output = tmp_path_factory.mktemp("runs")
    status = main(
        [
            "-t",
            "True",
            "-p",
            str(cards),
            "--output",
            str(output),
            "--name",
            "run",
            "--epochs",
            "2",
            "--crop-pretraining",
            "2steps",
            *TINY,
        ]
    )
    assert status == 0
    return output / "run"


def fingerprint(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns)
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def rows_of(run: Path) -> list[dict[str, str]]:
    with open(run / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def train(cards: Path, output: Path, *flags: str) -> int:
    return main(
        [
            "-t",
            "True",
            "-p",
            str(cards),
            "--output",
            str(output),
            "--name",
            "run",
            "--crop-pretraining",
            "off",
            *TINY,
            *flags,
        ]
    )


def test_a_run_leaves_everything_the_design_promises(run: Path) -> None:
    assert {p.name for p in run.iterdir()} >= {
        "config.json",
        "best.pth",
        "last.pth",
        "metrics.csv",
        "curves.png",
        "detections.png",
        "crop_pretraining.json",
    }
    assert list(run.glob("events.out.tfevents.*"))
    for picture in ("curves.png", "detections.png"):
        pixels = np.asarray(Image.open(run / picture).convert("RGB"))
        assert pixels.shape[0] > 100
        assert pixels.std() > 5
    rows = rows_of(run)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(float(row["loss"]) > 0 and 0 <= float(row["mAP"]) <= 1 for row in rows)
    report = json.loads((run / "crop_pretraining.json").read_text())
    assert report["steps"] == 2
    assert json.loads((run / "config.json").read_text())["epochs"] == 2


def test_tensorboard_shows_losses_rate_and_map(run: Path) -> None:
    events = EventAccumulator(str(run))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert tags >= {"loss", "loss_classification", "loss_bbox_regression", "learning_rate"}
    assert tags >= {"val_loss", "mAP", "mAP50", "mAP75"}
    rows = rows_of(run)
    shown = [event.value for event in events.Scalars("mAP")]
    assert shown == pytest.approx([float(row["mAP"]) for row in rows])


def test_a_run_ends_with_the_report_of_its_best_epoch(run: Path) -> None:
    folder = run / "monitor-best"
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "data:image/png" in page and "ace" in page
    for name in ("precision_recall", "thresholds", "confusion", "sizes", "curves", "detections"):
        assert np.asarray(Image.open(folder / f"{name}.png").convert("RGB")).std() > 5, name
    measured = json.loads((folder / "metrics.json").read_text())
    best = load_checkpoint(run / "best.pth")
    assert measured["coco"]["AP IoU=0.50:0.95 area=all maxDets=100"] == best.metrics["mAP"]
    assert measured["recommended_score_threshold"] == best.score_threshold
    assert measured["diagnosis"]
    assert best.training["steps"] == 2 * best.epoch and best.training["images"] == 8


def test_last_pth_says_as_much_of_its_training_as_best_pth(run: Path) -> None:
    last = load_checkpoint(run / "last.pth")
    assert last.training["steps"] == last.training["planned_steps"] == 4
    assert last.training["images"] == 8 and last.training["learning_rate"] == 1e-3
    content = torch.load(run / "last.pth", weights_only=True)
    assert "score_threshold" in content


def test_a_run_that_learns_nothing_says_why_and_overfitting_gives_its_verdict(
    cards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = ["--epochs", "2", "--overfit", "2", "--learning-rate", "1e-9", "--batch-size", "1"]
    assert train(cards, tmp_path, *nothing) == 0
    out = capsys.readouterr().out
    explained, end = out.split("epoch     2/2")
    assert "diagnosis why mAP is low, the most likely cause first:" in explained
    assert re.search(r"^ +1\. .*learning rate", explained, re.MULTILINE)
    assert re.search(r"^ +level 1, stride 8: ", explained, re.MULTILINE)
    assert re.search(r"^overfit +too short to tell: .* after 52 steps", end, re.MULTILINE)
    assert re.search(r"^diagnosis 1\. ", end, re.MULTILINE)


def test_both_checkpoints_load_as_plain_tensors_and_values(run: Path) -> None:
    for name in ("best.pth", "last.pth"):
        content = torch.load(run / name, weights_only=True)
        assert content["detector"]["class_names"] == ["ace", "king", "queen"]
        assert load_checkpoint(run / name).build_model()


def test_monitor_needs_nothing_but_the_checkpoint(
    run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    flags = ["-l", str(run / "best.pth"), "-d", "cpu", "-w", "0", "--precision", "fp32"]
    assert main([*flags, "--output", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "the data set that the checkpoint remembers" in out
    assert "COCO summary" in out
    assert re.search(r"queen.*\b0\b.*n/a", out), "a class without objects is n/a"
    assert re.search(r"[\d.]+ it/s", out)
    assert "M parameters" in out
    assert (tmp_path / "detections.png").is_file()
    measured = json.loads((tmp_path / "metrics.json").read_text())
    best = load_checkpoint(run / "best.pth").metrics["mAP"]
    assert measured["coco"]["AP IoU=0.50:0.95 area=all maxDets=100"] == pytest.approx(best)


def test_a_report_matches_detections_and_objects_once(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning validates, and the report asks for more; a module begins with an empty one."""
    images: list[int] = []
    match = metrics.match
    monkeypatch.setattr(
        metrics,
        "match",
        lambda objects, *others: (
            images.append(len(np.unique(objects.image))) or match(objects, *others)
        ),
    )
    flags = ["-l", str(run / "best.pth"), "-d", "cpu", "-w", "0"]
    assert main([*flags, "--output", str(tmp_path)]) == 0
    assert [count for count in images if count] == [4]


def test_monitor_writes_beside_the_checkpoint_unless_told_otherwise(run: Path) -> None:
    assert main(["-l", str(run / "last.pth"), "-d", "cpu", "-w", "0"]) == 0
    assert (run / "monitor-last" / "metrics.json").is_file()


def test_the_class_list_is_one_in_training_checkpoint_validation_and_pictures(
    run: Path, cards: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["-l", str(run / "best.pth"), "-d", "cpu", "-w", "0"]) == 0
    classes = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("classes"))
    assert "1 ace (3, 2), 2 king (3, 2), 3 queen (2, 0)" in classes
    assert load_checkpoint(run / "best.pth").description.class_names == ("ace", "king", "queen")
    other = tmp_path / "other"
    write_cards(
        other,
        {"a.png": [("queen", 4, 4, 30, 30)], "c.png": [("king", 4, 4, 30, 30)]},
        {"b.png": [("king", 4, 4, 30, 30)]},
    )
    assert main(["-l", str(run / "best.pth"), "-p", str(other), "-d", "cpu", "-w", "0"]) == 0
    out = capsys.readouterr().out
    assert "1 ace (0, 0), 2 king (1, 1), 3 queen (1, 0)" in out
    assert "has no ace" in out


def test_other_classes_than_the_checkpoints_are_refused_with_both_lists(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_cards(
        tmp_path / "dogs", {"a.png": [("dog", 4, 4, 30, 30)]}, {"b.png": [("dog", 4, 4, 30, 30)]}
    )
    assert main(["-l", str(run / "best.pth"), "-p", str(other), "-d", "cpu"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "ace, king, queen" in line
    assert "dog" in line


def test_a_run_with_and_without_cache_ends_with_the_same_weights(
    cards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = []
    for cache in ("True", "False"):
        assert train(cards, tmp_path / cache, "--epochs", "1", "--cache", cache) == 0
        assert ("stay in memory" in capsys.readouterr().out) == (cache == "True")
        weights.append(load_checkpoint(tmp_path / cache / "run" / "best.pth").weights)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_run_goes_on_in_the_precision_that_auto_chose(
    cards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = iter(["bf16", "fp32"])
    monkeypatch.setattr(hardware, "choose_precision", lambda *_: next(chosen))
    assert train(cards, tmp_path, "--epochs", "1", "--precision", "auto") == 0
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert saved["precision"] == "bf16"
    assert read_config(["--resume", str(tmp_path / "run"), "--epochs", "2"]).precision == "bf16"


def test_compile_reaches_the_network_that_trains_and_its_failure_is_one_line(
    cards: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled = []
    error = type("InductorError", (RuntimeError,), {"__module__": "torch._inductor.exc"})

    def broken(model: BatchedRetinaNet) -> None:
        compiled.append(model)
        model.forward = fail

    def fail(*arguments: object) -> None:
        raise error("no compiler")

    monkeypatch.setattr(BatchedRetinaNet, "compile_network", broken)
    assert train(cards, tmp_path, "--epochs", "1", "--compile", "True") == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error:")]
    assert len(compiled) == 1 and "--compile" in line and "no compiler" in line


def test_the_data_set_is_never_touched(cards: Path, tmp_path: Path) -> None:
    before = fingerprint(cards)
    assert train(cards, tmp_path, "--epochs", "1") == 0
    assert main(["-l", str(tmp_path / "run" / "best.pth"), "-d", "cpu", "-w", "0"]) == 0
    assert fingerprint(cards) == before


def test_a_data_set_that_is_gone_is_an_error_that_says_to_give_p(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(run / "best.pth", weights_only=True)
    content["detector"]["data"]["path"] = str(tmp_path / "gone")
    torch.save(content, tmp_path / "moved.pth")
    assert main(["-l", str(tmp_path / "moved.pth"), "-d", "cpu"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "gone") in line
    assert "-p" in line


@pytest.mark.parametrize(
    ("flag", "value", "own"),
    [("-m", "efficientnet-b1", "efficientnet-b0"), ("--image-size", "128", "64")],
)
def test_a_flag_that_contradicts_the_checkpoint_names_both_values(
    run: Path, flag: str, value: str, own: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-l", str(run / "best.pth"), "-d", "cpu", flag, value]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert value in line
    assert own in line


def test_an_interrupted_run_resumes_to_the_very_same_weights(
    run: Path,
    cards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train(cards, tmp_path / "whole", "--epochs", "2") == 0
    start = DetectorModule.on_train_batch_start

    def interrupted(self: DetectorModule, batch: object, batch_idx: int) -> None:
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        start(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(DetectorModule, "on_train_batch_start", interrupted)
        assert train(cards, tmp_path / "broken", "--epochs", "2") == 130
    broken = tmp_path / "broken" / "run"
    assert f"--resume {broken}" in capsys.readouterr().out
    assert [row["epoch"] for row in rows_of(broken)] == ["1"]

    assert main(["--resume", str(broken)]) == 0
    whole = tmp_path / "whole" / "run"
    assert [r["loss"] for r in rows_of(broken)] == [r["loss"] for r in rows_of(whole)]
    ours = torch.load(broken / "last.pth", weights_only=True)
    theirs = torch.load(whole / "last.pth", weights_only=True)
    for name, value in theirs["weights"].items():
        assert torch.equal(value, ours["weights"][name]), name
    for name, value in theirs["state_dict"].items():
        assert torch.equal(value, ours["state_dict"][name]), name


def test_resuming_with_another_recipe_is_refused(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--resume", str(run), "--learning-rate", "0.5"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "0.5" in line
    assert "0.001" in line


def test_a_new_run_starts_from_the_weights_of_a_checkpoint(
    run: Path, cards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--epochs", "1", "-l", str(run / "best.pth"), "--learning-rate", "1e-9"]
    assert train(cards, tmp_path, *flags) == 0
    assert "from" in capsys.readouterr().out
    old = load_checkpoint(run / "best.pth").weights
    new = load_checkpoint(tmp_path / "run" / "best.pth").weights
    name = "backbone.body.network._conv_head.weight"
    assert torch.allclose(old[name], new[name], atol=1e-6)
    assert (tmp_path / "run" / "crop_pretraining.json").exists() is False


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_files(
    cards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--epochs", "30", "--learning-rate", "1e20", "--gradient-clip", "0"]
    assert train(cards, tmp_path, *flags) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error:")]
    assert "no longer finite" in line
    assert str(cards / "train" / "t") in line


def test_the_guard_without_a_card_warns_once_and_training_goes_on(
    cards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(cards, tmp_path, "--epochs", "1", "-g", "yes") == 0
    out = capsys.readouterr().out
    assert len([x for x in out.splitlines() if x.startswith("guard") and "unknown" in x]) >= 1
    assert (tmp_path / "run" / "best.pth").is_file()


def test_a_damaged_image_is_one_line_that_names_it_also_from_a_worker(
    cards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "cards"
    shutil.copytree(cards, damaged)
    (damaged / "train" / "t3.png").write_bytes((cards / "train" / "t3.png").read_bytes()[:60])
    assert train(damaged, tmp_path, "--epochs", "1", "-w", "1") == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.strip()]
    assert line.startswith(f"error: {damaged}: 1 image(s) that cannot be read: train/t3.png: ")
    assert "Traceback" not in line
    flags = ("--epochs", "1", "-w", "1", "--on-bad-image", "skip")
    assert train(damaged, tmp_path / "runs", *flags) == 0
    assert "7 training images" in (out := capsys.readouterr().out) and "t3.png" in out
    checkpoint = load_checkpoint(next((tmp_path / "runs").glob("*/best.pth")))
    assert checkpoint.description.data["skip_bad_images"]


def test_best_pth_and_fewer_epochs_cannot_be_resumed_and_say_why(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--resume", str(run / "best.pth")]) == 2
    assert "last.pth" in capsys.readouterr().err
    assert main(["--resume", str(run), "--epochs", "1"]) == 2
    assert "has done 2 epochs" in capsys.readouterr().err


def test_a_run_that_was_extended_remembers_it_and_validates_its_last_epoch(
    cards: Path, tmp_path: Path
) -> None:
    assert train(cards, tmp_path, "--epochs", "1", "--val-every", "5") == 0
    assert main(["--resume", str(tmp_path / "run"), "--epochs", "2"]) == 0
    assert [row["epoch"] for row in rows_of(tmp_path / "run")] == ["1", "2"]
    assert all(row["mAP"] for row in rows_of(tmp_path / "run"))
    assert json.loads((tmp_path / "run" / "config.json").read_text())["epochs"] == 2
    assert main(["--resume", str(tmp_path / "run")]) == 0


def test_every_command_of_the_readme_is_understood() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^(?:\$ )?python main\.py (.+?)(?:\s+#.*)?$", text, re.MULTILINE)
    assert len(commands) >= 5
    for command in commands:
        arguments = shlex.split(command)
        if "--help" in arguments or "--resume" in arguments:
            continue
        config = read_config(arguments)
        assert config.train or config.load or config.check


def test_the_real_cards_train_for_an_epoch_and_are_monitored(
    cards_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["-t", "True", "-p", str(cards_dir), "-m", "efficientnet-b0"]
    small = [
        "--epochs",
        "1",
        "--image-size",
        "64",
        "--backbone-weights",
        "none",
        "--anchor-scale",
        "0.25",
        "--batch-size",
        "32",
        "--crop-pretraining",
        "2steps",
        "-d",
        "cpu",
        "-w",
        "0",
        "--output",
        str(tmp_path),
    ]
    assert main([*flags, *small]) == 0
    checkpoint = tmp_path / "efficientnet-b0" / "best.pth"
    assert main(["-l", str(checkpoint), "-p", str(cards_dir), "-d", "cpu", "-w", "0"]) == 0
    out = capsys.readouterr().out
    assert "296 training images (527 objects), 67 validation images (143 objects)" in out
    assert "1 ace" in out


def test_another_data_set_has_a_report_of_its_own_and_none_is_written_into_the_data(
    run: Path, cards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = (run / "monitor-best" / "metrics.json").read_bytes()
    other = shutil.copytree(cards, tmp_path / "other")
    before = fingerprint(other)
    flags = ["-l", str(run / "best.pth"), "-p", str(other), "-d", "cpu", "-w", "0"]
    assert main(flags) == 0
    assert (run / "monitor-best-other" / "report.html").is_file()
    assert (run / "monitor-best" / "metrics.json").read_bytes() == own
    assert main([*flags, "--output", str(other / "report")]) == 2
    assert "where nothing is ever written" in capsys.readouterr().err
    assert fingerprint(other) == before


def test_a_run_is_never_written_into_the_data_set(
    cards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = fingerprint(cards)
    assert train(cards, cards / "runs", "--epochs", "1") == 2
    assert "where nothing is ever written" in capsys.readouterr().err
    assert fingerprint(cards) == before and not (cards / "runs").exists()


def test_a_csv_that_no_run_wrote_costs_the_curves_and_nothing_else(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(run / "best.pth", tmp_path / "mine.pth")
    (tmp_path / "metrics.csv").write_text("step,accuracy\n1,high\n")
    assert main(["-l", str(tmp_path / "mine.pth"), "-d", "cpu", "-w", "0"]) == 0
    assert "is not what a run writes" in capsys.readouterr().out
    assert (tmp_path / "monitor-mine" / "report.html").is_file()
