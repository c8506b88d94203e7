"""The objects that an annotation gives to one image, collected into a record."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data.dataset import Annotation
from data.reading.box_parsing import Box


@dataclass
class ImageObjects:
    """Objects in the order of the file, each once. size and source: as in ``Annotation``.

    rows: (class name, box) to whether it is difficult.
    """

    source: str
    size: tuple[int, int] | None = None
    rows: dict[tuple[str, Box], bool] = field(default_factory=dict)

    def add(self, name: str, box: Box, difficult: bool = False) -> bool:
        """Whether it is new; of several with the same name and box the first one stays."""
        count = len(self.rows)
        self.rows.setdefault((name, box), difficult)
        return len(self.rows) > count

    def annotation(self, image: Path) -> Annotation:
        return Annotation(
            image_path=image,
            boxes=np.array([box for _, box in self.rows], dtype=np.float32).reshape(-1, 4),
            names=tuple(name for name, _ in self.rows),
            difficult=np.array(list(self.rows.values()), dtype=bool),
            size=self.size,
            source=self.source,
        )
