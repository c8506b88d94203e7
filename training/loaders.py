"""The loaders of a training run."""

from __future__ import annotations

from dataclasses import dataclass

from torch.utils.data import DataLoader

from data.augmentation import TrainingTransform, training_canvas
from data.dataset import Dataset, DataSplits
from data.loader import make_loader

LEAST_OVERFIT_STEPS = 25  # an epoch of --overfit repeats its few images until it has as many


@dataclass(frozen=True)
class Loading:
    """How images come from the disk to the model.

    image_size: pixels of the longer side. scale_jitter: largest factor. repeat_few: an epoch over
    fewer than ``LEAST_OVERFIT_STEPS`` batches repeats its images.
    """

    image_size: int
    batch_size: int
    workers: int
    seed: int
    scale_jitter: float
    quarter_turns: bool
    repeat_few: bool
    pin_memory: bool

    def loaders(self, splits: DataSplits) -> tuple[DataLoader, DataLoader]:
        """Of augmented training images, shuffled, and of validation images."""
        train = self._repeated(splits.train) if self.repeat_few else splits.train
        canvas = training_canvas(
            (annotation.size for annotation in train.annotations),
            self.image_size,
            square=self.quarter_turns,
        )
        transform = TrainingTransform(
            canvas, scale_jitter=self.scale_jitter, quarter_turns=self.quarter_turns
        )
        return (
            self._loader(train.with_transform(transform), shuffle=True),
            self._loader(splits.validation, shuffle=False),
        )

    def _repeated(self, train: Dataset) -> Dataset:
        repeats = -(-LEAST_OVERFIT_STEPS * self.batch_size // len(train))
        return train.subset([*range(len(train))] * repeats)

    def _loader(self, dataset: Dataset, shuffle: bool) -> DataLoader:
        return make_loader(
            dataset,
            batch_size=self.batch_size,
            shuffle=shuffle,
            workers=self.workers,
            seed=self.seed,
            pin_memory=self.pin_memory,
        )
