"""The files that a prediction writes: their content, and what is left of them on a full disk."""

from __future__ import annotations

import contextlib
import errno
import json
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image
from pycocotools.coco import COCO

from evaluation.metrics.results import Detections
from prediction import output_files
from prediction.inference import Prediction
from prediction.output_files import OutputFiles, drawn_names
from tests.data_sets import snapshot
from tests.predicting import NAMES, RESULTS, Run, noise, run, saved, write_checkpoint
from utils.console import harmless

THREE = Detections(np.ones((3, 4), np.float32), np.ones(3, np.float32), np.ones(3, np.int64))
GOOD = ["a.jpg", "a.png", "deep/A.png", "deep/a.bmp", "deep/er/16.tif", "grey.gif", "z\udcff.png"]
BAD = ["empty.jpg", "text.jpg", "trun\x1b[2Jcated.png"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven images that can be read, three that cannot, and other files."""
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
def done(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One prediction of the folder; its checkpoint lies beside the results."""
    checkpoint = write_checkpoint(tmp_path_factory.mktemp("run") / "best.pth")
    return run(checkpoint, photos, "--score-threshold", "0.05")


def test_an_image_that_cannot_be_read_is_named_and_counted_and_makes_the_status_1(
    done: Run, photos: Path
) -> None:
    assert done.status == 1 and done.err == ""
    for line, name in zip(done.lines("failed"), BAD, strict=True):
        assert harmless(f"{photos / name}: ") in line
    [line] = done.lines("done")
    assert f"images 10, objects {len(done.objects())}, failed 3" in line and "images/s" in line
    [line] = done.lines("images")
    assert "10 in" in line and "other files: " in line


def test_every_image_has_one_row_with_its_size_and_objects_or_its_error(done: Run) -> None:
    rows = done.rows("images.csv")
    names = [name.replace("\udcff", "\\udcff") for name in sorted(GOOD + BAD)]
    assert sorted(row["filename"] for row in rows) == names
    assert [row["image_id"] for row in rows] == [str(i + 1) for i in range(10)]
    for row in rows:
        bad = row["filename"] in BAD
        assert bool(row["error"]) == bad
        assert bool(row["annotated"]) == bool(row["width"]) == (not bad)
        ids = [item["image_id"] for item in done.objects()]
        assert ids.count(int(row["image_id"])) == int(row["objects"])
    sizes = {row["filename"]: (row["width"], row["height"]) for row in rows}
    assert sizes["a.png"] == ("48", "64") and sizes["deep/a.bmp"] == ("90", "128")


def test_json_and_csv_hold_the_same_objects_with_their_names(done: Run) -> None:
    objects, rows = done.objects(), done.rows("predictions.csv")
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


def test_pycocotools_takes_the_results(done: Run) -> None:
    truth = COCO()
    truth.dataset = {
        "images": [{"id": int(row["image_id"])} for row in done.rows("images.csv")],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(NAMES)],
        "annotations": [],
    }
    truth.createIndex()
    assert len(truth.loadRes(str(done.folder / RESULTS[0])).anns) == len(done.objects())


def test_every_readable_image_is_drawn_upright_under_its_own_name(done: Run, photos: Path) -> None:
    rows = done.rows("images.csv")
    drawn = {row["filename"]: row["annotated"] for row in rows if row["annotated"]}
    assert drawn["a.jpg"] == "images/a.jpg" and drawn["a.png"] == "images/a-2.jpg"
    assert drawn["deep/er/16.tif"] == "images/deep/er/16.jpg"
    deep = {drawn["deep/A.png"], drawn["deep/a.bmp"]}
    assert deep == {"images/deep/A.jpg", "images/deep/a-2.jpg"}
    on_disk = [p for p in (done.folder / "images").rglob("*") if p.is_file()]
    assert len(on_disk) == len(GOOD) and all(p.suffix == ".jpg" for p in on_disk)
    with Image.open(done.folder / drawn["a.png"]) as picture:
        assert picture.format == "JPEG" and picture.size == (48, 64)
        source = Image.open(photos / "a.png").convert("RGB").transpose(Image.Transpose.ROTATE_90)
        difference = np.abs(np.asarray(picture).astype(int) - np.asarray(source).astype(int))
    assert "a.png" in {o["file_name"] for o in done.objects()} and difference.max() > 100


def test_escapes_in_a_name_are_shown_and_not_obeyed(
    done: Run, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(line.isprintable() for line in done.out.splitlines())
    captions: list[str] = []

    def draw(image: Image.Image, boxes: Any, labels: Any, texts: list[str]) -> Image.Image:
        captions.extend(texts)
        return image

    monkeypatch.setattr(output_files, "draw_boxes", draw)
    checkpoint = done.folder.parent / "best.pth"
    assert run(checkpoint, photos / "a.png", "--score-threshold", "0.02").status == 0
    assert captions and all(caption.isprintable() for caption in captions)
    assert {caption.rsplit(maxsplit=1)[0] for caption in captions} <= set(map(harmless, NAMES))


@pytest.mark.slow
def test_a_second_prediction_gives_the_same_with_workers_and_batches_of_one(
    done: Run, photos: Path
) -> None:
    before = snapshot(photos)
    checkpoint = done.folder.parent / "best.pth"
    again = run(checkpoint, photos, "--score-threshold", "0.05", "-w", "2", "--batch-size", "1")
    assert again.folder == done.folder.with_name("predict-my photos-2") and again.status == 1
    assert snapshot(photos) == before
    assert (again.folder / "images.csv").read_bytes() == (done.folder / "images.csv").read_bytes()
    for one, other in zip(again.objects(), done.objects(), strict=True):
        for key in ("image_id", "category_id", "file_name"):
            assert one[key] == other[key]
        assert one["score"] == pytest.approx(other["score"], abs=1e-4)
        assert one["bbox"] == pytest.approx(other["bbox"], abs=0.03)


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
    with OutputFiles(tmp_path, [f"{k}.png" for k in range(99)]) as results:
        with small_disk(), pytest.raises(OSError):
            for k in range(99):
                results.add(Prediction(k, None, (64, 48), THREE, ("ace",) * 3))
        assert not (tmp_path / RESULTS[0]).exists()
    objects = json.loads((tmp_path / "predictions.json").read_text())
    assert len(objects) == results.objects > 3
    assert {p.name for p in tmp_path.iterdir()} == set(RESULTS)


def test_a_drawn_image_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_short(self: Image.Image, path: Path, *args: Any, **more: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", cut_short)
    with OutputFiles(tmp_path, ["a.png"]) as results, pytest.raises(OSError, match="No space left"):
        results.add(Prediction(0, None, (64, 48), THREE, ("ace",) * 3, image=noise(1)))
    assert list((tmp_path / "images").iterdir()) == []


def test_no_two_sources_share_a_name_on_any_disk() -> None:
    composed, decomposed = "caf\u00e9.png", "cafe\u0301.gif"
    names = ["a.png", "A.gif", "a-2.png", "a.b.png", "x.png", "x.jpg/in.png", composed, decomposed]
    assert [name.removesuffix(".jpg") for name in drawn_names(names)] == [
        *("a", "A-2", "a-2-2", "a.b", "x-2", "x.jpg/in", "caf\u00e9", "cafe\u0301-2")
    ]


def test_an_image_longer_than_jpeg_allows_is_drawn_smaller(tmp_path: Path) -> None:
    strip = noise(1, (66_000, 3))
    with OutputFiles(tmp_path, ["strip.png"]) as results:
        results.add(Prediction(0, None, strip.size, THREE, ("ace",) * 3, image=strip))
    with Image.open(tmp_path / "images" / "strip.jpg") as picture:
        assert picture.size[0] == output_files.JPEG_LONGEST
