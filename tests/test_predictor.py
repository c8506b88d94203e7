"""``--predict`` from the command line: the files it leaves, its lines and its exit status."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from pycocotools.coco import COCO

import predictor
from main import main
from model.checkpoint import DetectorDescription, load_checkpoint, write_whole
from prediction import output_files as prediction_files
from prediction.output_files import drawn_names
from tests.prediction.test_inference import noise, saved
from tests.small_models import SIDE, enliven
from utils.console import harmless
from utils.gpu_check import Cooldown

NAMES = ("ace", "[bold]ki\x1b[2Jng", 'queen\nof, "hearts"')
RESULTS = ("predictions.json", "predictions.csv", "images.csv")
CPU = ["-d", "cpu", "-w", "0", "--precision", "fp32"]


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    """A best.pth whose scores lie apart, from under 0.05 to over 0.5."""
    torch.manual_seed(1)
    description = DetectorDescription("efficientnet-b0", NAMES, image_size=SIDE, anchor_scale=0.25)
    model = enliven(description.build(), spread=0.3)
    with torch.no_grad():
        head = model.head.classification_head.cls_logits
        head.weight.mul_(0.03)
        head.bias.fill_(-5)
    return {"detector": description.as_plain(), "weights": model.state_dict(), "epoch": 4}


@pytest.fixture
def checkpoint(content: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "run" / "best.pth"
    write_whole(content, path)
    return path


class Run(NamedTuple):
    status: int
    out: str
    err: str
    folder: Path

    def lines(self, label: str) -> list[str]:
        return [line for line in self.out.splitlines() if line.split(maxsplit=1)[0] == label]

    def objects(self) -> list[dict[str, Any]]:
        return json.loads((self.folder / "predictions.json").read_text(encoding="utf-8"))

    def rows(self, name: str) -> list[dict[str, str]]:
        with open(self.folder / name, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


def run(checkpoint: Path, path: Path, *flags: str) -> Run:
    """The folder is the one that --output or the last line names."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(["-l", str(checkpoint), "--predict", str(path), *CPU, *flags])
    last = [line for line in out.getvalue().splitlines() if line.startswith("saved")]
    named = last[0].split(maxsplit=1)[1].split(": ")[0] if last else checkpoint.parent / "results"
    return Run(status, out.getvalue(), err.getvalue(), Path(named))


def fingerprint(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(p.relative_to(folder)): (p.read_bytes() if p.is_file() else b"", p.stat().st_mtime_ns)
        for p in sorted(folder.rglob("*"))
    }


GOOD = ["a.jpg", "a.png", "deep/A.png", "deep/a.bmp", "deep/er/16.tif", "grey.gif", "z\udcff.png"]
BAD = ["empty.jpg", "text.jpg", "trun\x1b[2Jcated.png"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven pictures that can be read, three that cannot, and three files that are none."""
    folder = tmp_path_factory.mktemp("pictures") / "my photos"
    rgba = noise(3)
    rgba.putalpha(noise(4).convert("L"))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 8
    deep = Image.fromarray(np.asarray(noise(5).convert("L")).astype(np.uint16) * 256)
    images = [noise(1), noise(2), rgba, noise(4, (90, 128)), deep, noise(6).convert("L"), noise(7)]
    for name, image in zip(GOOD, images, strict=True):
        saved(folder / name, image, **({"exif": exif} if name == "a.png" else {}))
    (folder / BAD[2]).write_bytes((folder / "a.png").read_bytes()[:3000])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("no picture")
    for name in ("notes.txt", "deep/labels.xml", "LICENSE"):
        (folder / name).write_text("left alone")
    (folder / "._a.png").write_text("of macOS")
    return folder


@pytest.fixture(scope="module")
def done(
    content: dict[str, Any], photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, Path]:
    """One prediction of the folder, and its checkpoint."""
    checkpoint = tmp_path_factory.mktemp("run") / "best.pth"
    write_whole(content, checkpoint)
    return run(checkpoint, photos, "--score-threshold", "0.05"), checkpoint


def test_the_results_lie_in_a_new_folder_beside_the_checkpoint(done: tuple[Run, Path]) -> None:
    result, checkpoint = done
    assert result.folder == checkpoint.parent / "predict-my photos"
    assert {p.name for p in result.folder.iterdir()} == {"images", *RESULTS}
    assert {p.name for p in checkpoint.parent.iterdir()} == {"best.pth", "predict-my photos"}


def test_a_picture_that_cannot_be_read_is_named_and_counted_and_makes_the_status_1(
    done: tuple[Run, Path], photos: Path
) -> None:
    result, _ = done
    assert result.status == 1 and result.err == ""
    failed = result.lines("failed")
    assert len(failed) == len(BAD)
    for line, name in zip(failed, BAD, strict=True):
        assert harmless(f"{photos / name}: ") in line
    [line] = result.lines("done")
    assert "pictures 10, " in line and f"objects {len(result.objects())}, failed 3" in line
    assert "images/s" in line
    assert "10 in" in result.lines("pictures")[0] and "other files: " in result.lines("pictures")[0]


def test_every_picture_has_one_row_that_tells_what_became_of_it(done: tuple[Run, Path]) -> None:
    result, _ = done
    rows = result.rows("images.csv")
    names = [name.replace("\udcff", "\\udcff") for name in sorted(GOOD + BAD)]
    assert sorted(row["filename"] for row in rows) == names
    assert [row["image_id"] for row in rows] == [str(i + 1) for i in range(10)]
    for row in rows:
        bad = row["filename"] in BAD
        assert bool(row["error"]) == bad and bool(row["annotated"]) == bool(row["width"]) == (
            not bad
        )
        found = [o for o in result.objects() if o["image_id"] == int(row["image_id"])]
        assert len(found) == int(row["objects"])
    sizes = {row["filename"]: (row["width"], row["height"]) for row in rows}
    assert sizes["a.png"] == ("48", "64") and sizes["deep/a.bmp"] == ("90", "128")


def test_json_and_csv_hold_the_same_objects_with_their_names(done: tuple[Run, Path]) -> None:
    result, _ = done
    objects, rows = result.objects(), result.rows("predictions.csv")
    assert len(objects) == len(rows) > 10
    assert {o["category_name"] for o in objects} == set(NAMES)
    assert "z\udcff.png" in {o["file_name"] for o in objects}
    for item, row in zip(objects, rows, strict=True):
        assert item["category_name"] == row["class"] == NAMES[item["category_id"] - 1]
        assert item["file_name"].replace("\udcff", "\\udcff") == row["filename"]
        assert item["score"] == float(row["score"]) >= 0.05
        left, top, right, bottom = (float(row[c]) for c in ("xmin", "ymin", "xmax", "ymax"))
        assert item["bbox"] == pytest.approx([left, top, right - left, bottom - top])
        assert 0 <= left < right <= 90 and 0 <= top < bottom <= 128


def test_pycocotools_takes_the_results(done: tuple[Run, Path]) -> None:
    result, _ = done
    truth = COCO()
    truth.dataset = {
        "images": [{"id": int(row["image_id"])} for row in result.rows("images.csv")],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(NAMES)],
        "annotations": [],
    }
    truth.createIndex()
    loaded = truth.loadRes(str(result.folder / "predictions.json"))
    assert len(loaded.anns) == len(result.objects())


def test_every_readable_picture_is_drawn_upright_under_its_own_name(
    done: tuple[Run, Path], photos: Path
) -> None:
    result, _ = done
    drawn = {
        row["filename"]: row["annotated"] for row in result.rows("images.csv") if row["annotated"]
    }
    assert drawn["a.jpg"] == "images/a.jpg" and drawn["a.png"] == "images/a-2.jpg"
    assert drawn["deep/er/16.tif"] == "images/deep/er/16.jpg"
    assert {drawn["deep/A.png"], drawn["deep/a.bmp"]} == {
        "images/deep/A.jpg",
        "images/deep/a-2.jpg",
    }
    on_disk = [p for p in (result.folder / "images").rglob("*") if p.is_file()]
    assert len(on_disk) == len(GOOD) and all(p.suffix == ".jpg" for p in on_disk)
    with Image.open(result.folder / drawn["a.png"]) as picture:
        assert picture.format == "JPEG" and picture.size == (48, 64)
        source = Image.open(photos / "a.png").convert("RGB").transpose(Image.Transpose.ROTATE_90)
        difference = np.abs(np.asarray(picture).astype(int) - np.asarray(source).astype(int))
    boxes = [o["bbox"] for o in result.objects() if o["file_name"] == "a.png"]
    assert boxes and difference.max() > 100


def test_escapes_in_a_name_are_shown_and_not_obeyed(
    done: tuple[Run, Path], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, checkpoint = done
    assert all(line.isprintable() for line in result.out.splitlines())
    captions: list[str] = []

    def draw(image: Image.Image, boxes: Any, labels: Any, texts: list[str]) -> Image.Image:
        captions.extend(texts)
        return image

    monkeypatch.setattr(prediction_files, "draw_boxes", draw)
    assert run(checkpoint, photos / "a.png", "--score-threshold", "0.02").status == 0
    assert captions and all(caption.isprintable() for caption in captions)
    assert {caption.rsplit(maxsplit=1)[0] for caption in captions} <= set(map(harmless, NAMES))


def test_a_second_prediction_gives_the_same_with_workers_and_batches_of_one(
    done: tuple[Run, Path], photos: Path
) -> None:
    first, checkpoint = done
    before = fingerprint(photos)
    again = run(checkpoint, photos, "--score-threshold", "0.05", "-w", "2", "--batch-size", "1")
    assert again.folder == checkpoint.parent / "predict-my photos-2" and again.status == 1
    assert fingerprint(photos) == before
    assert (again.folder / "images.csv").read_bytes() == (first.folder / "images.csv").read_bytes()
    assert len(again.objects()) == len(first.objects())
    for one, other in zip(again.objects(), first.objects(), strict=True):
        for key in ("image_id", "category_id", "file_name"):
            assert one[key] == other[key]
        assert one["score"] == pytest.approx(other["score"], abs=1e-4)
        assert one["bbox"] == pytest.approx(other["bbox"], abs=0.03)


def test_one_picture_of_any_name_is_enough_and_makes_the_status_0(
    checkpoint: Path, tmp_path: Path
) -> None:
    path = saved(tmp_path / "scan.of.it", noise(1), format="PNG")
    result = run(checkpoint, path)
    assert result.status == 0 and result.folder.name == "predict-scan.of"
    assert [row["filename"] for row in result.rows("images.csv")] == ["scan.of.it"]
    assert (result.folder / "images" / "scan.of.jpg").is_file()


@pytest.mark.parametrize(
    ("stored", "asked", "threshold"),
    [(None, None, 0.5), (0.3, None, 0.3), (0.3, "0.1", 0.1), (None, "0.02", 0.02)],
)
def test_the_threshold_is_the_flag_s_else_the_checkpoint_s_else_a_half(
    content: dict[str, Any],
    tmp_path: Path,
    stored: float | None,
    asked: str | None,
    threshold: float,
) -> None:
    write_whole(content | {"score_threshold": stored}, tmp_path / "best.pth")
    for seed in (1, 97):
        saved(tmp_path / "photos" / f"{seed}.png", noise(seed))
    photos = tmp_path / "photos"
    result = run(tmp_path / "best.pth", photos, *(["--score-threshold", asked] if asked else []))
    [line] = result.lines("threshold")
    assert f" {threshold:g}, " in line
    scores = [item["score"] for item in result.objects()]
    assert scores and threshold <= min(scores) < threshold + 0.03


def test_nothing_found_is_no_failure(checkpoint: Path, tmp_path: Path) -> None:
    path = saved(tmp_path / "grey.png", Image.new("RGB", (64, 48), "grey"))
    result = run(checkpoint, path, "--score-threshold", "0.9999")
    assert result.status == 0 and result.objects() == []
    assert result.rows("predictions.csv") == []
    [row] = result.rows("images.csv")
    assert row["objects"] == "0" and (result.folder / row["annotated"]).is_file()


def error_of(result: Run) -> str:
    assert result.status == 2
    [line] = result.err.splitlines()
    assert line.startswith("error: ")
    return line


def test_results_are_never_written_into_the_folder_of_the_pictures(
    checkpoint: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "run"  # where the checkpoint lies
    saved(photos / "a.png", noise(1))
    (tmp_path / "link").symlink_to(photos)
    before = fingerprint(tmp_path)
    assert "--output" in error_of(run(checkpoint, photos))
    link = tmp_path / "link"
    for source, output in ((photos, photos), (photos, link / "new"), (link, photos / "new")):
        assert str(output) in error_of(run(checkpoint, source, "--output", str(output)))
    assert fingerprint(tmp_path) == before


@pytest.mark.parametrize("name", [*RESULTS, "images"])
def test_results_are_never_overwritten(checkpoint: Path, tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / "a.png", noise(1))
    (tmp_path / "out" / name).mkdir(parents=True)
    before = fingerprint(tmp_path)
    line = error_of(run(checkpoint, path, "--output", str(tmp_path / "out")))
    assert name in line and str(tmp_path / "out") in line
    assert fingerprint(tmp_path) == before


def test_the_output_folder_may_hold_other_things(checkpoint: Path, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", noise(1))
    assert run(checkpoint, path, "--output", str(tmp_path)).status == 0
    assert (tmp_path / "images" / "a.jpg").is_file() and (tmp_path / "predictions.json").is_file()


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


@pytest.fixture
def three(tmp_path: Path) -> Path:
    for name in "abc":
        saved(tmp_path / "three" / f"{name}.png", noise(ord(name)))
    return tmp_path / "three"


@pytest.mark.parametrize(
    ("trouble", "status", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "No space left"),
    ],
)
def test_what_was_found_is_kept_when_the_user_or_the_disk_ends_it(
    checkpoint: Path,
    three: Path,
    monkeypatch: pytest.MonkeyPatch,
    trouble: BaseException,
    status: int,
    words: str,
) -> None:
    save = prediction_files._save_drawn

    def interrupted(prediction: Any, path: Path) -> None:
        if path.name == "c.jpg":
            raise trouble
        save(prediction, path)

    monkeypatch.setattr(prediction_files, "_save_drawn", interrupted)
    output = checkpoint.parent / "results"
    result = run(checkpoint, three, "--output", str(output), "--score-threshold", "0.05")
    assert result.status == status and words in result.err and len(result.err.splitlines()) == 1
    [line] = result.lines("stopped")
    assert "after 2 of 3 pictures" in line and str(output) in line
    assert {item["file_name"] for item in result.objects()} == {"a.png", "b.png"}
    assert [row["filename"] for row in result.rows("images.csv")] == ["a.png", "b.png"]
    assert {p.name for p in output.iterdir()} == {"images", *RESULTS}


@contextlib.contextmanager
def small_disk() -> Iterator[None]:
    """No file may grow beyond 3000 bytes, the log of the tests included: keep it short."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_piece_that_a_full_disk_cut_short_is_taken_away(tmp_path: Path) -> None:
    file = prediction_files._GrowingFile(tmp_path / "x.json", "[", "]")
    file.add("1, 2")
    with small_disk(), pytest.raises(OSError):
        file.add(", 3" * 2000)
    assert not (tmp_path / "x.json").exists()
    file.close()
    assert (tmp_path / "x.json").read_text() == "[1, 2]"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_drawn_picture_appears_whole_or_not_at_all(
    checkpoint: Path, three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_short(self: Image.Image, path: Path, *args: Any, **more: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", cut_short)
    result = run(checkpoint, three, "--output", str(checkpoint.parent / "results"))
    assert result.status == 2
    assert list((result.folder / "images").iterdir()) == []


def test_no_two_sources_share_a_name_on_any_disk() -> None:
    composed, decomposed = "caf\u00e9.png", "cafe\u0301.gif"
    names = ["a.png", "A.gif", "a-2.png", "a.b.png", "x.png", "x.jpg/in.png", composed, decomposed]
    drawn = drawn_names(names)
    assert drawn == [
        "a.jpg",
        "A-2.jpg",
        "a-2-2.jpg",
        "a.b.jpg",
        "x-2.jpg",
        "x.jpg/in.jpg",
        "caf\u00e9.jpg",
        "cafe\u0301-2.jpg",
    ]


def test_a_picture_longer_than_jpeg_allows_is_drawn_smaller(
    checkpoint: Path, tmp_path: Path
) -> None:
    result = run(checkpoint, saved(tmp_path / "strip.png", noise(1, (66_000, 3))))
    assert result.status == 0
    with Image.open(result.folder / "images" / "strip.jpg") as picture:
        assert picture.size[0] == prediction_files.JPEG_LONGEST


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


def test_a_long_prediction_without_a_terminal_says_how_far_it_is(
    checkpoint: Path, three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor, "LINE_EVERY", 2)
    assert run(checkpoint, three).lines("progress") == ["progress  2 of 3 pictures"]


def test_the_checkpoint_is_only_read(checkpoint: Path, three: Path) -> None:
    before = checkpoint.read_bytes()
    assert run(checkpoint, three).status == 0
    assert checkpoint.read_bytes() == before and load_checkpoint(checkpoint)
