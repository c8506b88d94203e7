"""What a detector predicted in an image, and what it should have predicted, as NumPy arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Detections:
    """What a detector predicted in one image.

    boxes: (M, 4) xyxy, absolute pixels of the image. scores: (M,), 0..1. labels: int64 (M,), 1..K.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray

    @classmethod
    def from_tensors(cls, detection: Mapping[str, Any]) -> Detections:
        """From a model's output for one image. Label 0, background, is left out."""
        every = cls(*(_array(detection[name]) for name in ("boxes", "scores", "labels")))
        return every.keep(every.labels > 0)

    def __len__(self) -> int:
        return len(self.boxes)

    def keep(self, rows: np.ndarray) -> Detections:
        """The rows of a bool mask (M,) or of indices, in their order."""
        return Detections(self.boxes[rows], self.scores[rows], self.labels[rows])

    def above(self, threshold: float) -> Detections:
        """Those whose score is ``threshold`` or higher, compared as float32."""
        return self.keep(self.scores >= np.float32(threshold))


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The annotated objects of one image.

    boxes: (N, 4) xyxy, absolute pixels of the image. labels: int64 (N,), 1..K. difficult: bool
    (N,), objects that are ignored: neither a true positive when detected nor missed when not.
    crowd: bool (N,), which of the difficult ones are COCO's ``iscrowd`` regions, or None for none.
    Any number of detections that mostly lie in a crowd region are ignored; of another difficult
    object only the one that matches it.
    """

    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    crowd: np.ndarray | None = None

    @classmethod
    def from_target(cls, target: Mapping[str, Any]) -> GroundTruth:
        """From a data set's target; ``crowd`` may be missing in it."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: _array(target[name]) for name in names if name in target})

    def __len__(self) -> int:
        """Difficult objects included."""
        return len(self.boxes)

    @property
    def is_crowd(self) -> np.ndarray:
        """bool (N,): ``crowd``, or all False."""
        return np.zeros(len(self), dtype=bool) if self.crowd is None else self.crowd


@dataclass(frozen=True, eq=False)
class ImageResult:
    """The ground truth and the detections of one image, in pixels of the same image."""

    image_id: int
    ground_truth: GroundTruth
    detections: Detections

    @classmethod
    def from_target(cls, target: Mapping[str, Any], detections: Detections) -> ImageResult:
        """From a data set's target and the detections in its image."""
        return cls(int(target["image_id"]), GroundTruth.from_target(target), detections)

    def with_detections(self, detections: Detections) -> ImageResult:
        """The same image with other detections."""
        return dataclasses.replace(self, detections=detections)


def joined(parts: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    """The parts one after another; an array of this type where there is none."""
    return np.concatenate([np.zeros(0, dtype), *parts])


def _array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
