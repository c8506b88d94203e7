"""What a data set hands on: samples, targets, batches.

A reader (``charlotte_dataset``, ``play_card_dataset``, ``voc2007_dataset``, ``coco_dataset``) turns
files into ``Annotation`` records; everything behind that point is the same for all of them and
lives here.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, TypeVar

import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F
from typing_extensions import NotRequired

from data.image_files.cache import ImageCache, read_pixels
from utils.errors import LONGEST_LIST, UserError, did_you_mean, shortened
from utils.text import LISTED, listed


@dataclass(frozen=True)
class Annotation:
    """One image and its objects; no pixel has been read yet.

    boxes: float32 (N, 4), xyxy, absolute pixels, origin 0. names: N class names.
    difficult: bool (N,). size: (width, height), or None. N may be 0.
    source: the annotation's file (and line), for messages.
    A reader takes size and boxes as the file has them; ``data.checking.box_checks`` puts the size
    of the image in their place and clips the boxes to it.
    crowd: bool (N,), which of the difficult are COCO's crowd regions; None where there is none.
    """

    image_path: Path
    boxes: np.ndarray
    names: tuple[str, ...]
    difficult: np.ndarray
    size: tuple[int, int] | None = None
    source: str = ""
    crowd: np.ndarray | None = None


@dataclass(frozen=True)
class Sample:
    """One decoded image with its objects.

    image: PIL RGB. boxes: float32 (N, 4), xyxy, absolute pixels of that image.
    labels: int64 (N,), 1..K (0 is background). difficult: bool (N,). N may be 0.
    """

    image: Image.Image
    boxes: torch.Tensor
    labels: torch.Tensor
    difficult: torch.Tensor


class Target(TypedDict):
    """What the model should find in one image; rows belong together and are kept together.

    boxes: float32 BoundingBoxes (N, 4), xyxy, pixels. labels: int64 (N,). difficult: bool (N,).
    image_id: unique in the split. crowd: bool (N,), only where an image has crowd regions.
    """

    boxes: tv_tensors.BoundingBoxes
    labels: torch.Tensor
    difficult: torch.Tensor
    image_id: int
    crowd: NotRequired[torch.Tensor]


class SampleKey(NamedTuple):
    """An image's index and the seed of its augmentation."""

    row: int
    seed: int


Transform = Callable[[Any, Target], tuple[torch.Tensor, Target]]
Result = TypeVar("Result")
Batch = tuple[list[torch.Tensor], list[Target]]


@dataclass(frozen=True)
class DataSplits:
    """A recognised data set: two splits that share one class list.

    layout: "playing cards", "VOC", "Charlotte", "COCO". notes: one line for each kind of thing that
    was dropped, repaired or assumed while reading, to be shown to the user.
    """

    train: Dataset
    validation: Dataset
    layout: str
    notes: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.train.class_names


class Dataset(torch.utils.data.Dataset):
    """Annotated images of one split. ``dataset[i]`` is ``(image, target)`` after ``transform``.

    annotations: one record per image, in a fixed order. class_names: the K names, label i + 1 is
    ``class_names[i]``. transform: see ``with_transform``; without one the image is a uint8
    (3, H, W) tensor. Raises UserError when an annotation names a class that is not in the list.

    unreadable: bool (rows,), images that a loader or ``readable_sample`` could not read. A loader
    shares it with its processes. cache: the images that stay decoded, see ``cached``; None where
    each one is decoded whenever it is needed.
    """

    def __init__(self, annotations: Sequence[Annotation], class_names: Sequence[str]) -> None:
        self.annotations = tuple(annotations)
        self.class_names = tuple(class_names)
        self.transform: Transform | None = None
        self._label_of = {name: i + 1 for i, name in enumerate(self.class_names)}
        self.cache: ImageCache | None = None
        self.unreadable = torch.zeros(len(self.annotations), dtype=torch.bool)
        if unknown := unknown_names(self.annotations, self.class_names):
            raise UserError(
                f"classes not in the list {listed(self.class_names)}: {listed(unknown)}. "
                "Correct the names or add the class to the training data.",
                longest=LONGEST_LIST,
            )

    def __len__(self) -> int:
        return len(self.annotations)

    def path(self, index: int) -> Path:
        """The image file behind ``index``, for messages."""
        return self.annotations[index].image_path

    def labels(self, index: int) -> list[int]:
        """The labels of one image, without opening it."""
        return [self._label_of[name] for name in self.annotations[index].names]

    def label_counts(self) -> Counter[str]:
        """Objects per class; a class without objects counts 0."""
        counts = Counter({name: 0 for name in self.class_names})
        counts.update(name for a in self.annotations for name in a.names)
        return counts

    def sample(self, index: int) -> Sample:
        """One decoded image. Raises UserError, naming the file, when it cannot be read."""
        image, target = self._item(index)
        boxes = target["boxes"].as_subclass(torch.Tensor)
        return Sample(F.to_pil_image(image), boxes, target["labels"], target["difficult"])

    def readable_sample(self, index: int) -> Sample | None:
        """As ``sample``; None, kept in ``unreadable``, for an image that cannot be read."""
        return self._unless_unreadable(index, self.sample)

    def __getitem__(self, key: int | SampleKey) -> tuple[torch.Tensor, Target] | None:
        """By an index, as ``sample``; by a loader's key, None for an image that cannot be read."""
        if not isinstance(key, SampleKey):
            return self._transformed(*self._item(key))
        item = self._unless_unreadable(key.row, self._item)
        if item is None or self.transform is None:
            return item
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key.seed)
            return self._transformed(*item)

    def _unless_unreadable(self, index: int, read: Callable[[int], Result]) -> Result | None:
        # Each was probed before the run. What happens to one since then must not end the run.
        try:
            return read(index)
        except UserError:
            self.unreadable[index] = True
            return None

    def _item(self, index: int) -> tuple[torch.Tensor, Target]:
        """The uint8 image (3, H, W) and its target."""
        annotation = self.annotations[index]
        read = self.cache.pixels if self.cache else read_pixels
        image = read(annotation.image_path, annotation.size)
        height, width = image.shape[-2:]
        size = annotation.size or (width, height)
        if size != (width, height):
            raise UserError(
                f"{annotation.image_path} is {width}x{height} pixels, but the boxes of "
                f"{annotation.source} were read for {size[0]}x{size[1]}; was it resized since?"
            )
        boxes = torch.tensor(annotation.boxes, dtype=torch.float32).reshape(-1, 4)
        target = Target(
            boxes=tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width)),
            labels=torch.tensor(self.labels(index), dtype=torch.int64),
            difficult=torch.tensor(annotation.difficult, dtype=torch.bool),
            image_id=index,
        )
        if annotation.crowd is not None:
            target["crowd"] = torch.from_numpy(annotation.crowd)
        return image, target

    def _transformed(self, image: torch.Tensor, target: Target) -> tuple[torch.Tensor, Target]:
        if self.transform is None:
            return image, target
        return self.transform(tv_tensors.Image(image), target)

    def cached(self, cache: ImageCache | None = None) -> Dataset:
        """The same images, decoded once and kept in memory; by default in a cache of its own."""
        return self._copy(cache=ImageCache(self.sizes()) if cache is None else cache)

    def sizes(self) -> Iterator[tuple[Path, tuple[int, int]]]:
        """Each image's path and (width, height), where it is known without decoding."""
        for annotation in self.annotations:
            if annotation.size is not None:
                yield annotation.image_path, annotation.size

    def with_transform(self, transform: Transform | None) -> Dataset:
        """The same annotations behind another transform."""
        return self._copy(transform=transform)

    def renamed_to(self, class_names: Sequence[str]) -> Dataset:
        """The same annotations labelled by another class list, for example a checkpoint's."""
        renamed = Dataset(self.annotations, class_names)
        return renamed._copy(transform=self.transform, cache=self.cache)

    def subset(self, indices: Sequence[int]) -> Dataset:
        """Some of the images; the class list stays."""
        annotations = tuple(self.annotations[i] for i in indices)
        unreadable = torch.zeros(len(annotations), dtype=torch.bool)
        return self._copy(annotations=annotations, unreadable=unreadable)

    def _copy(self, **changes: Any) -> Dataset:
        other = copy.copy(self)
        vars(other).update(changes)
        return other


def unknown_names(annotations: Iterable[Annotation], class_names: Sequence[str]) -> list[str]:
    """A text about each name that is not in the list, the most frequent first."""
    known = set(class_names)
    counts: Counter[str] = Counter()
    where: dict[str, str] = {}
    for annotation in annotations:
        for name in annotation.names:
            if name not in known:
                counts[name] += 1
                where.setdefault(name, f"{annotation.source}, {annotation.image_path.name}")
    texts: list[str] = []
    for name, count in counts.most_common():
        # The search among many names takes time, and a line shows no more of them.
        hint = did_you_mean(name, class_names) if len(texts) < LISTED else ""
        texts.append(f"{shortened(repr(name), 100)} in {count} object(s), e.g. {where[name]}{hint}")
    return texts
