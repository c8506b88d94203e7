"""The seeded split: no class is lost to training, and nothing but records and seed decide."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.dataset import Annotation
from data.splits import seeded_split
from utils.errors import UserError


def records(*classes: str) -> list[Annotation]:
    """One record per word; each letter of the word is the class of an object."""
    return [
        Annotation(Path(f"{i:03}.jpg"), None, tuple(word), None)  # type: ignore[arg-type]
        for i, word in enumerate(classes)
    ]


def test_the_split_does_not_depend_on_the_order_of_the_records() -> None:
    ordered = records(*"aabbccddee")
    assert seeded_split(ordered, 0.3, 5) == seeded_split(ordered[::-1], 0.3, 5)


@pytest.mark.parametrize("seed", range(20))
def test_every_class_is_in_training_and_every_class_of_two_images_in_validation(
    seed: int,
) -> None:
    everything = records("a", "ab", "b", "c", "c", "d", *["e"] * 9, *[""] * 5)
    train, validation = seeded_split(everything, 0.25, seed)
    assert (len(train), len(validation)) == (15, 5)
    assert sorted(train + validation, key=lambda a: a.image_path) == everything
    assert {n for a in train for n in a.names} == set("abcde")
    assert {n for a in validation for n in a.names} >= set("ce")


def test_both_splits_have_an_image_at_any_fraction() -> None:
    for fraction in (0.001, 0.999):
        for same in ("a", ""):
            train, validation = seeded_split(records(same, same, same), fraction, 0)
            assert train and validation


def test_images_that_cannot_be_split_are_an_error() -> None:
    for lonely in (["a"], ["a", "b"]):
        with pytest.raises(UserError, match="cannot be split"):
            seeded_split(records(*lonely), 0.5, 0)
    with pytest.raises(UserError, match=r"validation fraction 1: expected a number"):
        seeded_split(records("a", "a"), 1.0, 0)
