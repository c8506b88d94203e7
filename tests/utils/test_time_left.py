"""The time that is left: from what is done, in words, now and then."""

from __future__ import annotations

import pytest

from utils import time_left
from utils.time_left import LINE_EVERY, TimeLeft, duration


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time_left, "monotonic", clock)
    return clock


def test_a_task_takes_as_long_again_as_its_parts_took(clock: Clock) -> None:
    left = TimeLeft()
    clock.now += 30
    assert left.seconds(0.25) == pytest.approx(90)
    assert left.text(0.25) == "about 90 s left"
    clock.now += 90
    assert left.seconds(1.0) == 0


def test_what_was_done_before_took_no_time_of_this_run(clock: Clock) -> None:
    left = TimeLeft(0.5)
    clock.now += 60
    assert left.seconds(0.75) == pytest.approx(60)


def test_nothing_done_tells_nothing(clock: Clock) -> None:
    left = TimeLeft(0.5)
    clock.now += 60
    assert left.seconds(0.5) is None and left.text(0.5) == ""


def test_a_line_is_due_now_and_then(clock: Clock) -> None:
    left, due = TimeLeft(), []
    for _ in range(int(3 * LINE_EVERY)):
        clock.now += 1
        due.append(left.line_is_due())
    assert sum(due) == 3 and due[int(LINE_EVERY) - 1]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (3000, "50 min"), (3900, "1 h 5 min")],
)
def test_a_duration_is_as_exact_as_it_is_known(seconds: float, words: str) -> None:
    assert duration(seconds) == words
