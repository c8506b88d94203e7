"""A data set that is wrong: all that is wrong is shown, and nothing is touched."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

import checker
import main
from data import open_dataset
from data.checking.check import Check, check_dataset
from tests.data.checking.broken_sets import CASES, DAMAGED, INVERTED, SLIGHTLY_OUTSIDE, Case
from tests.data.checking.sound_sets import cards, charlotte, coco, picture, voc
from tests.data_sets import SIZE, refusal, snapshot, write_text, xml_text
from tests.fuzz import check_sample


@pytest.fixture(params=CASES, ids=[c.name for c in CASES])
def broken(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Case, Path]]:
    """A case and its data set, which has to be the same afterwards."""
    folder = request.param.base(tmp_path / "data")
    request.param.change(folder)
    before = snapshot(folder)
    yield request.param, folder
    assert snapshot(folder) == before
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


def lines(check: Check) -> str:
    return "\n".join(line for r in check.remarks for line in (r.line(), *r.places))


def test_what_is_wrong_is_shown_and_training_starts_with_whole_samples_or_refuses_in_one_line(
    broken: tuple[Case, Path],
) -> None:
    case, folder = broken
    check = check_dataset(folder)
    assert check.verdict == case.verdict, lines(check)
    assert [text for text in case.texts if text not in lines(check)] == [], lines(check)
    assert bool(check.problems) == (case.verdict != "clean")
    if case.verdict == "unusable":
        assert str(folder) in refusal(folder)
        return
    splits = open_dataset(folder)
    for split in (splits.train, splits.validation):
        for row in range(len(split)):
            check_sample(split, row)


@pytest.mark.parametrize("base", [charlotte, cards, voc, coco])
def test_a_sound_data_set_is_clean(base: Callable[[Path], Path], tmp_path: Path) -> None:
    check = check_dataset(base(tmp_path))
    assert check.verdict == "clean" and not check.problems
    assert sum(s.images for s in check.splits) == 6 and sum(s.objects for s in check.splits) == 12
    assert {n: sum(c) for n, c in check.classes.items()} == {"ace": 6, "king": 6}


# ---- the command


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main.main(["--check", *arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_the_exit_status_is_the_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = charlotte(tmp_path / "data")
    status, out, err = run(capsys, "-p", str(folder))
    assert (status, err) == (0, "") and "verdict   clean" in out
    assert all(word in out for word in ("training", "validation", "ace", "king", "64x48"))
    SLIGHTLY_OUTSIDE(folder)
    status, out, _ = run(capsys, "-p", str(folder))
    assert status == 1 and "verdict   problems: 1" in out and "clipped: 1" in out
    INVERTED(folder)
    status, out, _ = run(capsys, "-p", str(folder))
    assert status == 2 and "verdict   unusable: 2" in out
    assert out.count("inverted corners") == 2
    status, out, _ = run(capsys, "-p", str(tmp_path / "dat"))
    assert status == 2 and "no such folder (did you mean 'data'?)" in out


def test_flags_of_a_split_are_refused_where_the_data_set_has_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--validation-fraction", "0.2", "--seed", "5")
    status, out, _ = run(capsys, "-p", str(cards(tmp_path / "cards")), *flags)
    assert status == 2 and "--validation-fraction 0.2, --seed 5: the data set" in out
    status, out, _ = run(capsys, "-p", str(charlotte(tmp_path / "charlotte")), *flags)
    assert status == 0 and "(seed 5)" in out


def test_bad_images_are_left_out_counted_and_listed_where_the_user_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = cards(tmp_path)
    damaged = folder / "train" / "a.jpg"
    damaged.write_bytes(b"")
    (folder / "test" / "e.jpg").unlink()
    message = refusal(folder)
    assert "1 image(s) that cannot be read: train/a.jpg: the file is empty" in message
    assert "1 image(s) not found in" in message and "'e.jpg'" in message
    assert "--on-bad-image skip" in message
    splits = open_dataset(folder, skip_bad_images=True)
    assert (len(splits.train), len(splits.validation)) == (3, 1)
    assert any("cannot be read: 1" in n and "a.jpg" in n for n in splits.notes)
    assert any("not found" in n and "'e.jpg'" in n for n in splits.notes)
    assert run(capsys, "-p", str(folder))[0] == 2
    assert run(capsys, "-p", str(folder), "--on-bad-image", "skip")[0] == 1


def test_where_every_image_is_bad_nothing_is_left_to_skip_to(tmp_path: Path) -> None:
    folder = cards(tmp_path)
    for path in folder.rglob("*.jpg"):
        path.write_bytes(b"")
    assert "no training image can be read" in refusal(folder, skip_bad_images=True)


def test_the_report_holds_everything_for_machines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = charlotte(tmp_path / "data")
    INVERTED(folder)
    DAMAGED(folder)
    report = tmp_path / "report.json"
    assert run(capsys, "-p", str(folder), "--check-report", str(report))[0] == 2
    content = json.loads(report.read_text())
    assert content["verdict"] == "unusable" and content["layout"] == "Charlotte"
    assert content["path"] == str(folder)
    by_severity = {problem["severity"]: problem for problem in content["problems"]}
    assert by_severity["error"]["count"] == len(by_severity["error"]["places"]) == 2
    assert by_severity["bad image"]["count"] == 4 and by_severity["bad image"]["refused"]
    assert [split["name"] for split in content["splits"]] == ["training", "validation"]
    report.unlink()
    assert run(capsys, "-p", str(tmp_path / "no"), "--check-report", str(report))[0] == 2
    assert json.loads(report.read_text())["layout"] is None


def odd_splits(folder: Path) -> Path:
    """One image without objects and one of another size; two objects are difficult.

    Roots of the boxes' areas: 20 and 30 in training, 40 in validation.
    """
    squares = {20: ("ace", 0, 0, 20, 20), 30: ("king", 0, 0, 30, 30), 40: ("king", 0, 0, 40, 40)}
    things = {"a": [squares[20]], "b": [squares[30]], "c": [], "d": [squares[40]]}
    for number, (name, objects) in enumerate(things.items()):
        split, size = ("val" if name == "d" else "train"), ((80, 60) if name == "b" else SIZE)
        picture(folder / split / f"{name}.jpg", number, size)
        text = xml_text(objects, f"{name}.jpg", size, difficult=[int(name in "ad")])
        write_text(folder / split / f"{name}.xml", text)
    return folder


def test_the_report_and_the_tables_hold_every_number_of_the_splits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    folder = odd_splits(tmp_path / "data")
    status, out, _ = run(capsys, "-p", str(folder), "--check-report", str(report))
    assert status == 0
    content = json.loads(report.read_text())
    training, validation = content["splits"]
    assert training == {
        **{"name": "training", "images": 3, "empty": 1, "objects": 2, "difficult": 1, "classes": 2},
        **{"sizes": [[64, 48, 2], [80, 60, 1]], "object_side": 25.0},
    }
    assert validation == {
        **{"name": "validation", "images": 1, "empty": 0, "objects": 1, "difficult": 1},
        **{"classes": 1, "sizes": [[64, 48, 1]], "object_side": 40.0},
    }
    ace, king = {"training": 1, "validation": 0}, {"training": 1, "validation": 1}
    assert content["classes"] == {"ace": ace, "king": king}
    assert content["problems"] == []
    cells = [line.split("\u2502")[1:-1] for line in out.splitlines() if line.startswith("\u2502")]
    table = {row[0].strip(): tuple(cell.strip() for cell in row[1:]) for row in cells}
    assert table == {
        "images": ("3", "1"), "without objects": ("1", "0"), "objects": ("2", "1"),
        "difficult": ("1", "1"), "classes": ("2", "1"), "object size (px)": ("25", "40"),
        "image sizes": ("64x48 (2), 80x60 (1)", "64x48 (1)"), "ace": ("1", "0"), "king": ("1", "1"),
    }  # fmt: skip


def test_notes_are_in_the_report_with_all_their_places(tmp_path: Path) -> None:
    folder = cards(tmp_path)
    for name in "acd":
        (folder / "train" / f"{name}.jpg").write_bytes((folder / "train" / "b.jpg").read_bytes())
    (note,) = check_dataset(folder).as_plain()["notes"]
    assert note["what"] == "images that are in the training split twice"
    assert (note["severity"], note["refused"]) == ("note", False)
    assert note["count"] == len(note["places"]) == 3


def test_a_split_without_objects_has_no_object_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = odd_splits(tmp_path)
    write_text(folder / "val" / "d.xml", xml_text([], "d.jpg"))
    assert check_dataset(folder).splits[1].object_side is None
    assert "n/a" in run(capsys, "-p", str(folder))[1]


def test_the_command_shows_the_progress_over_every_image_of_both_splits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[int, int]] = []

    @contextmanager
    def bar(label: str) -> Iterator[Callable[[int, int], None]]:
        yield lambda done, total: shown.append((done, total))

    monkeypatch.setattr(checker, "progress_bar", bar)
    run(capsys, "-p", str(cards(tmp_path)))
    assert shown == [(n, 6) for n in range(1, 7)]


def test_the_report_is_never_written_into_the_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = charlotte(tmp_path / "data")
    before = snapshot(folder)
    for place in (folder / "x.json", folder / "new" / "x.json", tmp_path, tmp_path / "no" / "x"):
        status, _, err = run(capsys, "-p", str(folder), "--check-report", str(place))
        assert status == 2 and "--check-report" in err and err.count("\n") == 1
    assert snapshot(folder) == before


def test_the_limit_of_pixels_can_be_raised_and_lowered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # undone afterwards
    folder = str(charlotte(tmp_path))
    status, out, _ = run(capsys, "-p", folder, "--max-megapixels", "0.003")
    assert status == 2 and out.count("larger than 0.003 megapixels") == 6
    assert run(capsys, "-p", folder, "--max-megapixels", "0.0031")[0] == 0


def test_a_data_set_that_may_not_be_written_is_checked(tmp_path: Path) -> None:
    folder = charlotte(tmp_path / "data")
    for path in (*folder.iterdir(), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = snapshot(folder)
    try:
        assert check_dataset(folder).verdict == "clean"
        assert snapshot(folder) == before
    finally:
        folder.chmod(0o755)


def test_an_annotation_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read anything")
    folder = charlotte(tmp_path / "data")
    (folder / "a.xml").chmod(0)
    assert "a.xml: cannot be read (Permission denied)" in lines(check_dataset(folder))


def test_the_real_cards_are_clean(cards_dir: Path) -> None:
    check = check_dataset(cards_dir)
    assert check.verdict == "clean", lines(check)
    assert [(s.images, s.objects) for s in check.splits] == [(296, 527), (67, 143)]
    assert list(check.classes) == ["ace", "jack", "king", "nine", "queen", "ten"]
