"""Batches of a data set: in a seeded order, loaded by processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch.utils.data import DataLoader, Sampler

from data.dataset import Batch, Dataset, SampleKey, Target
from data.image_files.read import allow_megapixels, max_megapixels


def collate_fn(items: Sequence[tuple[torch.Tensor, Target] | None]) -> Batch:
    """Images of different sizes cannot be stacked: a batch is a list of images and of targets.

    What could not be read is left out; where nothing could, both lists are empty.
    """
    readable = [item for item in items if item is not None]
    return [image for image, _ in readable], [target for _, target in readable]


def keep_limits(megapixels: float, worker: int) -> None:
    """Give a loader's process the limit of the main one; not every system inherits it."""
    allow_megapixels(megapixels)


class SeededSampler(Sampler[SampleKey]):
    """Indices in order or shuffled, each with its own seed; both follow from (seed, epoch) alone.

    The randomness of a sample therefore depends neither on the number of workers nor on whether
    the run was interrupted and resumed before this epoch. Lightning calls ``set_epoch``.
    """

    def __init__(self, length: int, seed: int, shuffle: bool) -> None:
        self.length, self.seed, self.shuffle = length, seed, shuffle
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[SampleKey]:
        generator = torch.Generator().manual_seed((self.seed << 20) + self.epoch)
        order = torch.arange(self.length)
        if self.shuffle:
            order = torch.randperm(self.length, generator=generator)
        seeds = torch.randint(2**62, (self.length,), generator=generator)
        yield from map(SampleKey, order.tolist(), seeds.tolist())


def make_loader(
    dataset: Dataset,
    batch_size: int,
    *,
    shuffle: bool = False,
    workers: int = 0,
    seed: int = 0,
    pin_memory: bool = False,
) -> DataLoader:
    """Batches of ``(list of (3, H, W) images, list of Target)``; the last one may be smaller.

    An image that cannot be read is left out of its batch and marked in ``dataset.unreadable``.
    """
    if workers:
        dataset.unreadable.share_memory_()
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=SeededSampler(len(dataset), seed, shuffle),
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=collate_fn,
        worker_init_fn=partial(keep_limits, max_megapixels()),
        pin_memory=pin_memory,
    )
