"""What is shown at the terminal, and that a data set's texts cannot command it."""

from __future__ import annotations

import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils import time_left
from utils.console import harmless, is_terminal, progress_bar, say, show_table

EVIL = [
    ("clear\x1b[2Jscreen", "clear\\x1b[2Jscreen"),
    ("two\nlines\r", "two\\nlines\\r"),
    ("bell\a", "bell\\x07"),
    ("right\u202eto left", "right\\u202eto left"),
    ("csi\x9b31m", "csi\\x9b31m"),
    ("null\0", "null\\x00"),
    ("half\udcff", "half\\udcff"),
]


@given(st.text(st.characters()))
def test_harmless_text_is_printable_and_printable_text_stays_as_it_is(text: str) -> None:
    shown = harmless(text)
    assert shown.isprintable()
    shown.encode("utf-8")
    assert (shown == text) == text.isprintable()


@pytest.mark.parametrize(("text", "shown"), EVIL)
def test_control_characters_are_shown_and_not_obeyed(
    text: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    say("classes", text)
    say(text, "x")
    show_table("Classes", ("class", "objects"), [(text, "3")])
    out, err = capsys.readouterr()
    assert err == ""
    first, second, *table = out.splitlines()
    assert first == f"classes   {shown}" and second.startswith(shown)
    assert sum(shown in line for line in table) == 1
    assert all(line.isprintable() for line in (first, second, *table))


@pytest.mark.parametrize("text", ["[red]name[/red]", "[/]", "[link=x]y", ":smile:", "\\[a]"])
def test_markup_in_a_class_name_is_a_part_of_the_name(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show_table("Classes", ("class", "objects"), [(text, "3")])
    say("note", text)
    out = capsys.readouterr().out
    assert out.count(text) == 2


def test_a_table_shows_its_title_columns_and_rows(capsys: pytest.CaptureFixture[str]) -> None:
    show_table("Classes", ("class", "objects", "mAP"), [("ace", "12", "0.5"), ("king", "3", "n/a")])
    lines = capsys.readouterr().out.splitlines()
    assert "Classes" in lines[0] and any("class" in x and "mAP" in x for x in lines)
    for cells in (("ace", "12", "0.5"), ("king", "3", "n/a")):
        assert sum(all(cell in line for cell in cells) for line in lines) == 1


def test_a_very_long_class_name_does_not_hide_the_numbers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    rows = [("name" * 60, "1234", "0.123", "0.456", "0.789"), ("b", "1", "n/a", "n/a", "n/a")]
    show_table("Classes", ("class", "objects", "mAP", "mAP50", "mAP75"), rows)
    out = capsys.readouterr().out
    assert all(cell in out for row in rows for cell in row[1:])


def test_a_fact_is_one_line_with_its_kind_in_front(capsys: pytest.CaptureFixture[str]) -> None:
    say("model", "efficientnet-b0")
    say("run")
    say("a very long label", "text")
    assert capsys.readouterr().out.splitlines() == [
        "model     efficientnet-b0",
        "run",
        "a very long label text",
    ]


def test_a_log_file_gets_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter(range(1000))
    monkeypatch.setattr(time_left, "monotonic", lambda: 0.5 * next(seconds))
    with progress_bar("cutting") as progress:
        for done in range(100):
            progress(done + 1, 100)
    lines = capsys.readouterr().out.splitlines()
    assert 3 <= len(lines) <= 12
    assert all(re.fullmatch(r"cutting   \d+ of 100, about \d+ s left", line) for line in lines)


def test_a_log_file_gets_no_progress_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_terminal()
    with progress_bar("cutting") as progress:
        for done in range(3):
            progress(done + 1, 3)
    out, err = capsys.readouterr()
    assert out.strip() == "" and err == ""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert is_terminal()
