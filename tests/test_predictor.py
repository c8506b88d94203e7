"""``--predict`` from the command line: its folders, its lines and its exit status."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import predictor
from prediction import output_files
from tests.data_sets import snapshot
from tests.predicting import RESULTS, Run, content, noise, run, saved, write_checkpoint
from tests.small_models import SIDE
from utils.gpu_check import Cooldown


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "run" / "best.pth")


@pytest.fixture
def three(tmp_path: Path) -> Path:
    for name in "abc":
        saved(tmp_path / "three" / f"{name}.png", noise(ord(name)))
    return tmp_path / "three"


def test_one_image_of_any_name_is_enough_and_makes_the_status_0(
    checkpoint: Path, tmp_path: Path
) -> None:
    path = saved(tmp_path / "scan.of.it", noise(1), format="PNG")
    before = checkpoint.read_bytes()
    result = run(checkpoint, path)
    assert checkpoint.read_bytes() == before
    assert result.status == 0 and result.folder == checkpoint.parent / "predict-scan.of"
    assert {p.name for p in result.folder.iterdir()} == {"images", *RESULTS}
    assert {p.name for p in checkpoint.parent.iterdir()} == {"best.pth", "predict-scan.of"}
    assert [row["filename"] for row in result.rows("images.csv")] == ["scan.of.it"]
    assert (result.folder / "images" / "scan.of.jpg").is_file()


@pytest.mark.parametrize(
    ("stored", "requested", "threshold"),
    [(None, None, 0.5), (0.3, None, 0.3), (0.3, "0.1", 0.1), (None, "0.02", 0.02)],
)
def test_the_threshold_is_the_flag_s_else_the_checkpoint_s_else_a_half(
    tmp_path: Path, stored: float | None, requested: str | None, threshold: float
) -> None:
    checkpoint = write_checkpoint(tmp_path / "best.pth", score_threshold=stored)
    photos = tmp_path / "photos"
    for seed in (1, 97):
        saved(photos / f"{seed}.png", noise(seed))
    flags = ["--score-threshold", requested] if requested else []
    result = run(checkpoint, photos, *flags)
    [line] = result.lines("threshold")
    assert f" {threshold:g}, " in line
    scores = [item["score"] for item in result.objects()]
    assert scores and threshold <= min(scores) < threshold + 0.03


def test_no_detection_is_no_failure_and_the_output_folder_may_hold_other_files(
    checkpoint: Path, tmp_path: Path
) -> None:
    path = saved(tmp_path / "grey.png", Image.new("RGB", (64, 48), "grey"))
    result = run(checkpoint, path, "--score-threshold", "0.9999", "--output", str(tmp_path))
    assert result.status == 0 and result.objects() == result.rows("predictions.csv") == []
    [row] = result.rows("images.csv")
    assert row["objects"] == "0" and (tmp_path / row["annotated"]).is_file()


def error_of(result: Run) -> str:
    assert result.status == 2
    [line] = result.err.splitlines()
    assert line.startswith("error: ")
    return line


def test_results_are_never_written_into_the_folder_of_the_images(
    checkpoint: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "run"  # where the checkpoint lies
    saved(photos / "a.png", noise(1))
    (tmp_path / "link").symlink_to(photos)
    before = snapshot(tmp_path)
    assert "--output" in error_of(run(checkpoint, photos))
    link = tmp_path / "link"
    for source, output in ((photos, photos), (photos, link / "new"), (link, photos / "new")):
        assert str(output) in error_of(run(checkpoint, source, "--output", str(output)))
    assert snapshot(tmp_path) == before


def test_results_are_never_written_into_the_data_set_of_the_checkpoint(tmp_path: Path) -> None:
    photo, data = saved(tmp_path / "a.png", noise(1)), tmp_path / "cards"
    data.mkdir()
    detector = {**content()["detector"], "data": {"path": str(data)}}
    trained = write_checkpoint(tmp_path / "run.pth", detector=detector)
    assert "the data set" in error_of(run(trained, photo, "--output", str(data / "new")))
    assert list(data.iterdir()) == []


@pytest.mark.parametrize("name", [*RESULTS, "images"])
def test_results_are_never_overwritten(checkpoint: Path, tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / "a.png", noise(1))
    (tmp_path / "out" / name).mkdir(parents=True)
    before = snapshot(tmp_path)
    line = error_of(run(checkpoint, path, "--output", str(tmp_path / "out")))
    assert name in line and str(tmp_path / "out") in line
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["-m", "efficientnet-b3"], ["--model efficientnet-b3", "efficientnet-b0"]),
        (["--image-size", "512"], ["--image-size 512", str(SIDE)]),
        (["--anchor-scale", "1"], ["--anchor-scale 1", "0.25"]),
        (["--predict", "no-such-folder"], ["--predict no-such-folder", "no such file"]),
        (["-l", "no-such.pth"], ["no-such.pth"]),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_folder(
    checkpoint: Path, tmp_path: Path, flags: list[str], words: list[str]
) -> None:
    path = saved(tmp_path / "a.png", noise(1))
    line = error_of(run(checkpoint, path, *flags))
    assert all(word in line for word in words)
    assert [p.name for p in checkpoint.parent.iterdir()] == ["best.pth"]


@pytest.mark.parametrize(
    ("trouble", "status", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "No space left"),
    ],
)
def test_what_was_detected_is_kept_when_the_user_or_the_disk_ends_it(
    checkpoint: Path,
    three: Path,
    monkeypatch: pytest.MonkeyPatch,
    trouble: BaseException,
    status: int,
    words: str,
) -> None:
    draw, drawn = output_files.draw_boxes, iter(range(3))

    def interrupted(*arguments: Any) -> Image.Image:
        if next(drawn) == 2:
            raise trouble
        return draw(*arguments)

    monkeypatch.setattr(output_files, "draw_boxes", interrupted)
    output = checkpoint.parent / "results"
    result = run(checkpoint, three, "--output", str(output), "--score-threshold", "0.05")
    assert result.status == status and words in result.err and len(result.err.splitlines()) == 1
    [line] = result.lines("stopped")
    assert "after 2 of 3 images" in line and str(output) in line
    assert {item["file_name"] for item in result.objects()} == {"a.png", "b.png"}
    assert [row["filename"] for row in result.rows("images.csv")] == ["a.png", "b.png"]
    assert {p.name for p in output.iterdir()} == {"images", *RESULTS}


def test_the_guard_rests_after_every_batch_and_an_unknown_temperature_stops_nothing(
    checkpoint: Path, three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[None] = []
    rest = Cooldown.rest
    monkeypatch.setattr(Cooldown, "rest", lambda self: rests.append(rest(self)))
    assert run(checkpoint, three, "--batch-size", "1").status == 0
    assert rests == []
    result = run(checkpoint, three, "--batch-size", "2", "-g", "True")
    assert result.status == 0 and len(rests) == 1
    lines = result.lines("guard")
    assert len(lines) == 2 and "unknown" in lines[0] and "1 of 1 readings unknown" in lines[1]


def test_a_long_prediction_without_a_terminal_prints_its_progress(
    checkpoint: Path, three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor, "LINE_EVERY", 2)
    assert run(checkpoint, three).lines("progress") == ["progress  2 of 3 images"]
