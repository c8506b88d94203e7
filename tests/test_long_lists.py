"""What a list of faults shows: in a line the first of them and how many more, in a report all."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from data import open_dataset
from data.checking.check import check_dataset
from data.dataset import Annotation, Dataset
from data.reading import class_names
from data.reading.class_names import remark_names
from data.remarks import CHECK_HINT, KEPT_PLACES, Remarks, Severity
from tests.data_sets import (
    ACE,
    KING,
    Thing,
    csv_text,
    refusal,
    write_cards,
    write_charlotte,
    write_text,
    xml_text,
)
from utils.errors import LONGEST_LINE, LONGEST_LIST, UserError, did_you_mean, shortened
from utils.text import LISTED, LONGEST_ITEM, listed

SOUND = {f"{i}.jpg": [ACE, KING] for i in range(4)}
MANY = LISTED + 5


def lost(count: int) -> dict[str, list[Thing]]:
    return {f"lost{i:02}.jpg": [ACE] for i in range(count)}


def missing_images(folder: Path, count: int) -> None:
    write_cards(folder, SOUND, {"8.jpg": [ACE]})
    write_text(folder / "train_labels.csv", csv_text({**SOUND, **lost(count)}))


def missing_images_of_xml(folder: Path, count: int) -> None:
    write_charlotte(folder, SOUND)
    for name in lost(count):
        write_text((folder / name).with_suffix(".xml"), xml_text([ACE], name))


def damaged_images(folder: Path, count: int) -> None:
    write_cards(folder, {**SOUND, **lost(count)}, {"8.jpg": [ACE]})
    for name in lost(count):
        (folder / "train" / name).write_bytes(b"")


def unknown_classes(folder: Path, count: int) -> None:
    things = [(f"lost{i:02}", 4, 6, 20, 30) for i in range(count)]
    write_cards(folder, SOUND, {"8.jpg": [ACE, *things]})


def shared_images(folder: Path, count: int) -> None:
    write_cards(folder, {**SOUND, **lost(count)}, {"8.jpg": [ACE]})
    for name in lost(count):  # beside the tables, where both splits look
        (folder / "train" / name).rename(folder / name)
    write_text(folder / "test_labels.csv", csv_text({"8.jpg": [ACE], **lost(count)}))


def untaught_classes(folder: Path, count: int) -> None:
    write_charlotte(folder, SOUND, ["ace", "king", *(f"lost{i:02}" for i in range(count))])


@dataclass(frozen=True)
class Kind:
    """Faults that are named lost00, lost01, ...; what: a text of their remark."""

    make: Callable[[Path, int], None]
    what: str
    refused: bool = True


KINDS = (
    Kind(missing_images, "image(s) not found in"),
    Kind(missing_images_of_xml, "annotation file(s) without their image"),
    Kind(damaged_images, "image(s) that cannot be read"),
    Kind(unknown_classes, "classes not in the list ace, king"),
    Kind(shared_images, "images that are in training and in validation", refused=False),
    Kind(untaught_classes, "classes without an object in the training split", refused=False),
)
BAD_IMAGES = KINDS[:3]
of_kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.make.__name__)


@of_kinds
def test_a_line_names_as_many_as_fit_how_many_more_there_are_and_which_command_names_all(
    kind: Kind, tmp_path: Path
) -> None:
    for count, rest in ((LISTED, ""), (MANY, f"and 5 more ({CHECK_HINT})")):
        folder = tmp_path / f"of {rest[:5]}"
        kind.make(folder, count)
        lines = [refusal(folder)] if kind.refused else []
        if kind in (*BAD_IMAGES, *KINDS[-2:]):
            lines += [n for n in open_dataset(folder, skip_bad_images=True).notes if kind.what in n]
        assert len(lines) == (2 if kind in BAD_IMAGES else 1)
        for line in lines:
            named = [i for i in range(count) if f"lost{i:02}" in line]
            assert kind.what in line and str(count) in line and named == list(range(LISTED))
            assert ("more" in line) == bool(rest) and rest in line


@of_kinds
def test_the_report_names_all(kind: Kind, tmp_path: Path) -> None:
    kind.make(tmp_path, MANY)
    problems = json.loads(json.dumps(check_dataset(tmp_path).as_plain()))["problems"]
    (problem,) = [p for p in problems if kind.what in p["what"]]
    assert problem["count"] == len(problem["places"]) == MANY
    assert problem["refused"] == kind.refused
    assert all(f"lost{i:02}" in place for i, place in enumerate(sorted(problem["places"])))


def test_a_class_list_that_does_not_fit_names_the_unknown_classes() -> None:
    names = tuple(f"lost{i:02}" for i in range(MANY))
    boxes, flags = np.tile(np.float32([1, 1, 9, 9]), (MANY, 1)), np.zeros(MANY, dtype=bool)
    with pytest.raises(UserError) as caught:
        Dataset([Annotation(Path("a.jpg"), boxes, names, flags, source="a.xml")], ["ace"])
    message = str(caught.value)
    assert f"'lost{LISTED - 1}' in 1 object(s), e.g. a.xml, a.jpg and 5 more. Correct" in message


def test_what_else_is_wrong_is_counted_beside_what_is_named() -> None:
    remarks = Remarks()
    remarks.count_all("names not in the list", ["one", "two"], Severity.ERROR)
    remarks.error("a.xml: inverted")
    with pytest.raises(UserError) as caught:
        remarks.refuse("/data", skip_bad_images=False)
    assert str(caught.value) == f"/data: 2 names not in the list: one, two (1 more; {CHECK_HINT})"
    remarks.count_all("nothing", [])
    assert len(list(remarks)) == 2


def test_places_that_were_not_kept_are_counted_among_the_others() -> None:
    remarks = Remarks()
    for i in range(KEPT_PLACES + 7):
        remarks.count("image(s) lost", f"{i}.jpg", Severity.BAD_IMAGE)
    (line,), (remark,) = remarks.lines(), remarks
    assert remark.places == [f"{i}.jpg" for i in range(KEPT_PLACES)]
    assert f": {KEPT_PLACES + 7} (0.jpg" in line and f"and {KEPT_PLACES + 7 - LISTED} more" in line


# ---- texts without end


def test_a_message_is_cut_in_its_middle() -> None:
    message = str(UserError(f"a.xml, object 1: xmin is {'x' * 2**20}; expected a number."))
    assert len(message) == LONGEST_LINE and "xxx...xxx" in message
    assert message.startswith("a.xml, object 1: xmin is x") and message.endswith(
        "expected a number."
    )
    assert str(UserError("y" * LONGEST_LINE)) == "y" * LONGEST_LINE
    cut = {12: "abcdefghijkl", 11: "abcdef...kl", 9: "abcd...kl"}
    assert {n: shortened("abcdefghijkl", n) for n in cut} == cut


@pytest.mark.parametrize("part", ["name", "value"])
def test_no_line_of_an_annotation_is_endless(part: str, tmp_path: Path) -> None:
    name, value = ("n" * 2**20, 4) if part == "name" else ("ace", "7" * 2**20)
    write_charlotte(tmp_path, SOUND)
    write_text(tmp_path / "0.xml", xml_text([(name, value, 6, 2, 30)]))  # type: ignore[list-item]
    with pytest.raises(UserError) as caught:
        open_dataset(tmp_path)
    assert len(str(caught.value)) <= LONGEST_LINE and "0.xml, object 1 '" in str(caught.value)
    for remark in check_dataset(tmp_path).remarks:
        assert all(len(line) <= LONGEST_LIST for line in (remark.what, remark.line()))
        assert all(len(place) <= LONGEST_LINE for place in remark.places)


def test_long_names_take_no_more_memory_than_short_ones() -> None:
    remarks = Remarks()
    for i in range(50):
        remarks.count("boxes without area, dropped", f"line {i}, {'n' * 100_000}")
    remarks.count("k" * 100_000, "a")
    remarks.note("s" * 100_000)
    remarks.warn("w" * 100_000)
    assert [len(remark.what) <= LONGEST_LIST for remark in remarks] == [True] * 4
    assert {len(place) for r in remarks for place in r.places} == {LONGEST_LINE, 1}


def test_long_items_leave_room_for_all_that_a_line_lists() -> None:
    line = listed([f"{i:02}{'x' * 5000}{i:02}" for i in range(MANY)], hint="see there")
    assert len(line) < LISTED * (LONGEST_ITEM + 2) + 40
    assert all(f"x{i:02}" in line for i in range(LISTED)) and line.endswith("5 more (see there)")


# ---- names that are compared


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """(word, number of words it is held against) of each search for a near name."""
    searches: list[tuple[str, int]] = []
    real = class_names.difflib.get_close_matches

    def counting(word: str, among: list[str], **options: float) -> list[str]:
        searches.append((word, len(among)))
        assert all(len(other) <= 80 for other in (word, *among))
        return [] if len(searches) > 50 else real(word, among, **options)

    monkeypatch.setattr("difflib.get_close_matches", counting)
    return searches


def counts_of(names: list[str]) -> dict[str, int]:
    """Half of them rare, half of them frequent."""
    return {name: 1 if i < len(names) / 2 else 100 for i, name in enumerate(names)}


def test_endless_names_are_not_compared(compared: list[tuple[str, int]]) -> None:
    counts = counts_of([f"{i}{'ab' * 1500}" for i in range(20)]) | {"knig": 1, "king": 100}
    remarks = Remarks()
    remark_names(list(counts), counts, {}, remarks)
    assert [word for word, _ in compared] == ["knig", "king"]
    assert len(remarks.lines()) == 1 and "did you mean 'king'" in remarks.lines()[0]
    assert did_you_mean("a" * 3000, ["a" * 2999]) == ""
    assert did_you_mean("knig", ["a" * 3000, "king"]) == " (did you mean 'king'?)"


def test_the_pairs_of_names_that_are_compared_are_bounded(compared: list[tuple[str, int]]) -> None:
    counts = counts_of([f"class {'ab'[i % 2] * i}" for i in range(60)])
    remark_names(list(counts), counts, {}, Remarks())
    assert 0 < sum(among for _, among in compared) <= 60**2
    compared.clear()
    counts = counts_of([f"class {chr(0x4E00 + i)}" for i in range(2000)])
    remark_names(list(counts), counts, {}, Remarks())
    assert sum(among for _, among in compared) <= class_names.MOST_PAIRS


def test_near_names_are_looked_for_as_long_as_a_line_shows_them(
    compared: list[tuple[str, int]],
) -> None:
    names = tuple(f"lost{i}" for i in range(500))
    boxes, flags = np.tile(np.float32([1, 1, 9, 9]), (500, 1)), np.zeros(500, dtype=bool)
    with pytest.raises(UserError):
        Dataset([Annotation(Path("a.jpg"), boxes, names, flags)], [f"king{i}" for i in range(5000)])
    assert len(compared) == LISTED and all(among <= 1000 for _, among in compared)
