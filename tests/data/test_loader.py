"""Batches: the same every time, whatever the processes and whatever was drawn before."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.augmentation import TrainingTransform
from data.dataset import Dataset, SampleKey
from data.loader import SeededSampler, make_loader
from tests.data_sets import comparable, seven_cards


@pytest.fixture
def cards(tmp_path: Path) -> Dataset:
    return seven_cards(tmp_path)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 40), st.integers(0, 2**31 - 1), st.integers(0, 10**4), st.booleans())
def test_seed_and_epoch_alone_give_the_keys(
    length: int, seed: int, epoch: int, shuffle: bool
) -> None:
    first, again = SeededSampler(length, seed, shuffle), SeededSampler(length, seed, shuffle)
    list(again)
    first.set_epoch(epoch)
    again.set_epoch(epoch)
    keys = list(first)
    assert keys == list(again) == list(first) and len(first) == len(keys) == length
    rows = [key.row for key in keys]
    assert sorted(rows) == list(range(length)) and (shuffle or rows == sorted(rows))


def test_another_epoch_or_seed_gives_another_order_and_other_randomness() -> None:
    def keys(seed: int, epoch: int, shuffle: bool = True) -> list[SampleKey]:
        sampler = SeededSampler(50, seed, shuffle)
        sampler.set_epoch(epoch)
        return list(sampler)

    drawn = [keys(0, 0), keys(0, 1), keys(1, 0), keys(1, 1)]
    assert len({tuple(k.row for k in order) for order in drawn}) == 4
    seeds = [k.seed for order in (*drawn, keys(0, 2, False), keys(0, 3, False)) for k in order]
    assert len(set(seeds)) == len(seeds)


def test_every_image_comes_once_and_in_order_and_the_last_batch_may_be_smaller(
    cards: Dataset,
) -> None:
    batches = list(make_loader(cards, 3))
    assert [tuple(image.shape) for image in batches[2][0]] == [(3, 54, 76)]
    assert [[t["image_id"] for t in targets] for _, targets in batches] == [
        [0, 1, 2], [3, 4, 5], [6],
    ]  # fmt: skip
    shuffled = [
        t["image_id"] for _, targets in make_loader(cards, 3, shuffle=True) for t in targets
    ]
    assert sorted(shuffled) == list(range(7)) and shuffled != sorted(shuffled)


def epoch_of(loader: torch.utils.data.DataLoader, epoch: int) -> list[tuple]:
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return comparable(loader)


def test_batches_do_not_depend_on_the_workers_nor_on_what_was_drawn_before(
    cards: Dataset,
) -> None:
    data = cards.with_transform(TrainingTransform((64, 64), quarter_turns=True))
    alone = make_loader(data, 3, shuffle=True, seed=5)
    with_two = make_loader(data, 3, shuffle=True, seed=5, workers=2)
    expected = epoch_of(alone, 1)
    torch.rand(100)
    assert epoch_of(alone, 0) != expected == epoch_of(alone, 1)
    # Workers that stay from epoch to epoch, as in training, and in any order of epochs.
    assert epoch_of(with_two, 1) == expected
    assert epoch_of(with_two, 0) == epoch_of(alone, 0)
    assert with_two.persistent_workers
    other = make_loader(data, 3, shuffle=True, seed=6)
    assert epoch_of(other, 1) != expected


def test_the_batch_size_changes_no_sample(cards: Dataset) -> None:
    data = cards.with_transform(TrainingTransform((64, 64)))
    loaders = (make_loader(data, size, shuffle=True, seed=1) for size in (1, 4))
    alone, together = (
        [item for batch in comparable(loader) for item in zip(*batch, strict=True)]
        for loader in loaders
    )
    assert alone == together


def test_a_sample_s_randomness_does_not_disturb_the_program_s(cards: Dataset) -> None:
    data = cards.with_transform(TrainingTransform((64, 64)))
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    first, _ = data[SampleKey(0, 11)]
    assert torch.equal(torch.rand(4), expected)
    assert torch.equal(data[SampleKey(0, 11)][0], first)
    assert not torch.equal(data[SampleKey(0, 12)][0], first)
