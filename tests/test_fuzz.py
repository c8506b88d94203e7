"""Damaged annotation files: a data set loads or one line says why not, and the fuzzer can tell."""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

import data.reading.box_parsing
from data.dataset import Dataset
from tests import fuzz
from tests.audit import Access, outside, watching
from tests.data_sets import snapshot
from tests.fuzz_data import Victim, write_victims
from tests.fuzz_mutations import mutate
from utils.errors import UserError


@pytest.fixture
def victims(tmp_path: Path) -> list[Victim]:
    return write_victims(tmp_path / "data")


def losses(victims: list[Victim], count: int = 40, **options: Any) -> list[fuzz.Loss]:
    tallies = fuzz.fuzz(victims, range(count), seed=3, **options)
    assert sum(t.loaded + t.errors + len(t.losses) for t in tallies.values()) == count
    return [loss for tally in tallies.values() for loss in tally.losses]


def test_the_data_sets_are_valid_before_they_are_mutated(victims: list[Victim]) -> None:
    assert [fuzz.probe(victim.folder) for victim in victims] == [6] * 5


def test_each_mutation_ends_in_samples_or_in_one_line_and_opens_no_file_elsewhere(
    victims: list[Victim], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a mutated path says, ``/etc/passwd`` included; only annotations are mutated."""
    folder, probe, seen = victims[0].folder.parent, fuzz.probe, list[Access]()

    def watched(folder: Path, limit: float = fuzz.LIMIT) -> int:
        with watching(seen):
            return probe(folder, limit)

    for victim in victims:  # what is imported late is imported now
        fuzz.probe(victim.folder)
    monkeypatch.setattr(fuzz, "probe", watched)
    before = snapshot(folder)
    for tally in fuzz.fuzz(victims, range(900), seed=20).values():
        assert tally.losses == [] and tally.loaded + tally.errors == 180
        assert tally.loaded > 4 and tally.errors > 30 and tally.samples > 2 * tally.loaded
    after = snapshot(folder)
    assert {p: entry[0] for p, entry in before.items()} == {p: e[0] for p, e in after.items()}
    images = [p for p in before if p.endswith((".png", ".jpg"))]
    assert len(images) == 30 and all(before[p] == after[p] for p in images)
    assert len(seen) > 600 and outside(seen, folder) == []
    assert not any(a.writes and a.path.startswith(str(folder)) for a in seen)
    assert not any("passwd" in a.path for a in seen)


def test_the_audit_notices_a_change(tmp_path: Path) -> None:
    with watching() as seen:
        (tmp_path / "elsewhere").write_text("")
        (tmp_path / "elsewhere").unlink()
    assert [(a.event, a.writes) for a in seen] == [("open", True), ("os.remove", True)]


def test_a_mutation_follows_from_its_seed_and_number(victims: list[Victim]) -> None:
    for number, victim in enumerate(victims):
        mutants = victim.mutants(7, number)
        assert mutants == victim.mutants(7, number) != victim.mutants(8, number)
        assert all(raw != victim.originals[file] for file, raw in mutants.items())


def test_a_file_of_any_bytes_can_be_mutated() -> None:
    for number in range(400):
        rng = random.Random(number)
        raw = rng.choice((b"", b"{", b"<", b"{}", b"[1]", b"\n", rng.randbytes(30)))
        assert mutate(raw, rng, [b"", raw, b"x,y\n1,2\n"]) != raw


def test_a_reader_that_takes_any_number_is_noticed(
    victims: list[Victim], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the readers called ``float`` without catching what it raises."""

    def naive(text: Any) -> float:
        try:
            return float(text)
        except ValueError as error:
            raise ArithmeticError(str(error)) from None

    monkeypatch.setattr(data.reading.box_parsing, "float", naive, raising=False)
    lost = losses(victims, 400)
    assert lost and all(loss.problem.startswith("ArithmeticError") for loss in lost)


def a_warning(folder: Path) -> None:
    warnings.warn("divide by zero", RuntimeWarning, stacklevel=1)


def an_endless_loop(folder: Path) -> None:
    while True:
        try:
            time.process_time()
        except Exception:
            continue


SEVERAL_LINES = UserError("")
SEVERAL_LINES.args = ("one\ntwo",)


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (KeyError("xmin"), "KeyError: 'xmin'"),
        (SEVERAL_LINES, "the error is of several lines"),
        (UserError("  "), "the error is empty"),
        (a_warning, "RuntimeWarning: divide by zero"),
        (an_endless_loop, "Hung: no end after 0.2 s"),
    ],
)
def test_a_fault_while_opening_is_a_loss(
    fault: Any, problem: str, victims: list[Victim], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz, "open_dataset", Mock(side_effect=fault))
    lost = losses(victims, 2, limit=0.2)
    assert len(lost) == 2 and all(problem in loss.problem for loss in lost)


SPOILING: dict[str, Callable[[Any], object]] = {
    "boxes": lambda target: target["boxes"].add_(40),
    "nan": lambda target: target["boxes"][:, 2].fill_(float("nan")),
    "thin": lambda target: target["boxes"][:, 2].copy_(target["boxes"][:, 0]),
    "labels": lambda target: target["labels"].add_(3),
    "difficult": lambda target: target.update(difficult=target["difficult"][:0]),
    "image_id": lambda target: target.update(image_id=-1),
}


@pytest.mark.parametrize("key", SPOILING)
def test_a_wrong_sample_is_a_loss(
    victims: list[Victim], monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    fetch = Dataset.__getitem__

    def spoilt(self: Dataset, index: int) -> Any:
        image, target = fetch(self, index)
        SPOILING[key](target)
        return image, target

    monkeypatch.setattr(Dataset, "__getitem__", spoilt)
    for victim in victims:
        with pytest.raises(fuzz.Lost):
            fuzz.probe(victim.folder)


def test_a_loss_is_reported_kept_and_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = fuzz.open_dataset

    def fails_at_some(folder: Path) -> Any:
        splits = opened(folder)
        if set(splits.class_names) != {"ace", "king", "queen"}:
            raise RuntimeError("planted")
        return splits

    monkeypatch.setattr(fuzz, "open_dataset", fails_at_some)
    keep = tmp_path / "kept"
    arguments = ["--seed", "4", "--keep", str(keep)]
    assert fuzz.main(["--mutations", "200", *arguments]) == 1
    *lost, _, _, _, _, _, _, summary = capsys.readouterr().out.splitlines()
    assert summary.startswith("seed 4, 200 mutations: ") and f" {len(lost)} lost" in summary
    assert len(list(keep.iterdir())) >= len(lost) > 0
    number = lost[0].split("--only ")[1].split(":")[0]
    assert fuzz.main(["--only", number, *arguments]) == 1
    assert capsys.readouterr().out.splitlines()[0] == lost[0]
    monkeypatch.undo()
    assert fuzz.main(["--only", number, "--seed", "4"]) == 0
