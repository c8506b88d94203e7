"""A run's folder: always a new one, and every file in it whole."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from utils import run_folder
from utils.errors import UserError
from utils.run_folder import (
    create_run_folder,
    find_last,
    make_folder,
    read_json,
    read_metrics,
    write_json,
    write_metrics,
)


def test_a_run_never_gets_a_folder_that_exists(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "runs"
    first = create_run_folder(output, "b0")
    (first / "best.pth").touch()
    folders = [first, *(create_run_folder(output, "b0") for _ in range(3))]
    assert [f.name for f in folders] == ["b0", "b0-2", "b0-3", "b0-4"]
    assert all(f.is_dir() and not any(f.iterdir()) for f in folders[1:])
    (output / "b0-2").rmdir()
    assert [create_run_folder(output, "b0").name for _ in range(2)] == ["b0-2", "b0-5"]
    assert create_run_folder(output, "b4").name == "b4"


def test_a_file_in_the_way_is_one_line_that_names_the_flag(tmp_path: Path) -> None:
    (tmp_path / "b0").touch()
    (tmp_path / "file").touch()
    for output, stem in ((tmp_path, "b0"), (tmp_path / "file", "b0"), (tmp_path / "file/in", "b")):
        with pytest.raises(UserError, match="--output") as caught:
            create_run_folder(output, stem)
        assert str(output) in str(caught.value) and "\n" not in str(caught.value)
    for folder in (tmp_path / "file", tmp_path / "file" / "in"):
        with pytest.raises(UserError, match="--output"):
            make_folder(folder)
    assert (tmp_path / "file").is_file() and (tmp_path / "b0").is_file()


def test_a_refusal_of_the_system_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    for make in (lambda: create_run_folder(tmp_path, "b0"), lambda: make_folder(tmp_path / "in")):
        with pytest.raises(UserError, match="--output.*cannot be made.*Permission denied"):
            make()


def test_a_monitor_s_folder_may_exist_already(tmp_path: Path) -> None:
    kept = tmp_path / "old" / "kept.txt"
    kept.parent.mkdir()
    kept.touch()
    for folder in (kept.parent, tmp_path / "new" / "deeper"):
        assert make_folder(folder) == folder and folder.is_dir()
    assert kept.is_file()


def test_json_comes_back_as_it_was_and_readable(tmp_path: Path) -> None:
    content = {"path": "/Käse/王", "none": None, "yes": True, "rate": 1e-3, "list": [1, 2]}
    write_json(content, tmp_path / "a.json")
    assert read_json(tmp_path / "a.json") == content
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "Käse/王" in text and text.endswith("}\n") and len(text.splitlines()) > 5


@pytest.mark.parametrize("what", ["content", "disk"])
def test_a_file_is_written_whole_or_stays_as_it_was(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    json_file, csv_file = tmp_path / "a.json", tmp_path / "a.csv"
    write_json({"epoch": 1}, json_file)
    write_metrics([{"epoch": 1}], csv_file)
    before = json_file.read_bytes(), csv_file.read_bytes()
    assert sorted(tmp_path.iterdir()) == [csv_file, json_file]
    if what == "content":
        with pytest.raises(TypeError):
            write_json({"epoch": 2, "odd": object()}, json_file)
    else:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(run_folder.os, "replace", full)
        with pytest.raises(OSError, match="No space"):
            write_json({"epoch": 2}, json_file)
        with pytest.raises(OSError, match="No space"):
            write_metrics([{"epoch": 2}], csv_file)
    assert (json_file.read_bytes(), csv_file.read_bytes()) == before


@pytest.mark.parametrize("content", [None, b"", b"{", b"[1, 2]", b'"text"', b"\xff\xfe\x00"])
def test_what_is_no_json_object_is_one_line_that_names_the_file(
    content: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="JSON") as caught:
        read_json(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_metrics_come_back_with_absent_values_as_nan(tmp_path: Path) -> None:
    rows = [
        {"epoch": 1, "loss": 2.5},
        {"epoch": 2, "loss": 0.1 + 0.2, "mAP": 0.25},
        {"epoch": 3, "mAP": float("nan"), "loss": 1e-30},
    ]
    write_metrics(rows, tmp_path / "metrics.csv")
    back = read_metrics(tmp_path / "metrics.csv")
    assert [list(row) for row in back] == [["epoch", "loss", "mAP"]] * 3
    assert [row["loss"] for row in back] == [row["loss"] for row in rows]
    assert [row["epoch"] for row in back] == [1, 2, 3]
    assert math.isnan(back[0]["mAP"]) and back[1]["mAP"] == 0.25 and math.isnan(back[2]["mAP"])
    write_metrics([], tmp_path / "empty.csv")
    assert read_metrics(tmp_path / "none.csv") == read_metrics(tmp_path / "empty.csv") == []


def test_a_run_goes_on_from_its_folder_or_its_file_else_one_line_names_the_flag(
    tmp_path: Path,
) -> None:
    last = tmp_path / "last.pth"
    for run, missing in ((tmp_path, last), (tmp_path / "no", tmp_path / "no")):
        with pytest.raises(UserError) as caught:
            find_last(run)
        message = str(caught.value)
        assert message.startswith(f"--resume {run}: there is no {missing};")
        assert "\n" not in message
    last.touch()
    assert find_last(tmp_path) == find_last(last) == last
