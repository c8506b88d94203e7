"""A data set in memory, and a trainer without output."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from data.dataset import Annotation, Dataset

NAMES = ("ace", "king", "queen", "jack", "ten", "nine")


class PicturesInMemory(Dataset):
    """Noise of given sizes with given objects; nothing is read from a disk."""

    def __init__(self, sizes: Sequence[tuple[int, int]]) -> None:
        random = np.random.default_rng(0)
        self.pixels = [random.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in sizes]
        self.plant([[((4, 6, w - 8, h - 9), 1 + i % 3)] for i, (h, w) in enumerate(sizes)])

    def plant(self, objects: Sequence[Sequence[tuple[Sequence[float], int]]]) -> None:
        """For each picture its boxes with their labels."""
        annotations = [
            Annotation(
                image_path=Path(f"{row}.png"),
                boxes=np.array([box for box, _ in things], dtype=np.float32).reshape(-1, 4),
                names=tuple(NAMES[label - 1] for _, label in things),
                difficult=np.zeros(len(things), dtype=bool),
            )
            for row, things in enumerate(objects)
        ]
        super().__init__(annotations, NAMES)
        drawn = [torch.from_numpy(rows).permute(2, 0, 1) for rows in self.pixels]
        self.cache = SimpleNamespace(pixels=lambda path, size: drawn[int(path.stem)])


def quiet_trainer(**options: Any) -> pl.Trainer:
    silent = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    defaults = {"accelerator": "cpu", "num_sanity_val_steps": 0, **dict.fromkeys(silent, False)}
    return pl.Trainer(**{**defaults, **options})
