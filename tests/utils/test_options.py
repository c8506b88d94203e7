"""Texts of flags to values."""

from __future__ import annotations

import pytest

from utils.options import Budget, one_of, parse_bool, parse_float, parse_int, parse_text


def test_numbers_and_texts_are_taken_as_they_are() -> None:
    assert parse_int(" 12 ") == 12 and parse_int("-3") == -3
    assert parse_float("1e-3") == 1e-3 and parse_float("2") == 2.0
    assert parse_text(" my cards ") == " my cards " and parse_bool(" Yes ") is True


@pytest.mark.parametrize(
    ("parse", "texts", "words"),
    [
        (parse_bool, ["", "t", "on", "2", "True False", "None", "-1", "1.0"], "True or False"),
        (parse_int, ["", "1.5", "x", "1e3", "inf", "0x10"], "whole number"),
        (parse_float, ["", "x", "nan", "inf", "-inf", "1e999", "1,5"], "number"),
        (parse_text, ["", " ", "\t\n"], "expected a value"),
        (Budget.parse, ["", "0", "0steps", "-3", "three", "3h", "nan", "1e3", "3 4"], "auto, off"),
        (Budget.parse, ["9" * 400 + "steps", "9" * 400], "auto, off"),
    ],
)
def test_any_other_text_is_refused_with_what_was_expected(parse, texts, words) -> None:
    for text in texts:
        with pytest.raises(ValueError, match=words):
            parse(text)


def test_a_choice_ignores_case_and_a_wrong_one_is_answered_with_the_nearest() -> None:
    parse = one_of("apple", "pear")
    assert parse(" Apple") == "apple"
    with pytest.raises(ValueError, match=r"one of apple, pear \(did you mean 'apple'\?\)"):
        parse("aple")
    with pytest.raises(ValueError, match="one of apple, pear$"):
        parse("zzz")


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("auto", Budget()),
        ("OFF", Budget(steps=0)),
        ("3", Budget(minutes=3)),
        ("3m", Budget(minutes=3)),
        (" 2.5 minutes ", Budget(minutes=2.5)),
        ("1 minute", Budget(minutes=1)),
        ("400Steps", Budget(steps=400)),
        ("1 step", Budget(steps=1)),
    ],
)
def test_a_budget_is_automatic_minutes_steps_or_off_and_its_text_is_read_back(
    text: str, budget: Budget
) -> None:
    assert Budget.parse(text) == budget == Budget.parse(str(budget))
    assert budget.is_auto == (text == "auto")


def test_progress_goes_from_0_to_1_by_steps_or_by_time() -> None:
    steps, minutes = Budget(steps=400), Budget(minutes=2)
    assert [steps.progress(step, 1e6) for step in (0, 100, 400)] == [0, 0.25, 1]
    assert [minutes.progress(10**6, seconds) for seconds in (0, 30, 120)] == [0, 0.25, 1]
