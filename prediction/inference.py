"""A detector on images without labels: they are read in worker processes and go in batches.

Everything streams: an image is read shortly before its batch and released after it, so the
memory needed does not depend on how many there are.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.models.detection import RetinaNet
from torchvision.transforms.v2 import functional as F

from data.image_files.read import max_megapixels, read_image, why_unreadable
from data.loader import keep_limits
from evaluation.metrics.operating_point import DEFAULT_THRESHOLD
from evaluation.metrics.results import Detections
from model.detector import Detector
from utils.errors import UserError
from utils.hardware import Machine

ImageSource = str | Path | Image.Image
PIXELS_PER_BATCH = 50_000_000
"""A batch of large photographs ends early: as float32 this many take 600 MB."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """The objects detected in one image, the highest-scoring first. M may be 0.

    index: the image's position in ``images``. source: its path; None for an image in memory.
    size: (width, height) of the upright image, (0, 0) if it could not be read. detections: boxes
    float32 (M, 4), xyxy, absolute pixels of the upright image; scores float32 (M,), 0..1; labels
    int64 (M,), 1..K. names: M class names. error: why the image could not be read, one line
    without its path; None if it could. image: the upright image, PIL RGB, if it was requested.
    """

    index: int
    source: Path | None
    size: tuple[int, int]
    detections: Detections
    names: tuple[str, ...]
    error: str | None = None
    image: Image.Image | None = None


def predict(
    model: RetinaNet,
    images: Iterable[ImageSource],
    class_names: Sequence[str],
    *,
    score_threshold: float = DEFAULT_THRESHOLD,
    batch_size: int = 8,
    workers: int = 0,
    machine: Machine | None = None,
    keep_images: bool = False,
) -> Iterator[Prediction]:
    """Detect objects in any number of images; yields one ``Prediction`` per image, in order.

        model = get_efficient_retinanet(num_classes=3, backbone_weights="none")
        model.load_state_dict(...)
        photos = Path("photos").glob("*.jpg")
        for prediction in predict(model, photos, ("ace", "king")):
            if prediction.error:
                print(f"{prediction.source}: {prediction.error}")
            detections = prediction.detections
            for name, score, box in zip(prediction.names, detections.scores, detections.boxes):
                print(prediction.source, name, f"{score:.2f}", box.tolist())

    model: of ``get_efficient_retinanet`` or any torchvision RetinaNet; it stays as it is. images:
    paths, in any of ``data.image_files.decode.FORMATS``, turned upright according to their EXIF and
    of several frames the first; or PIL images, taken as they are. A generator is read only as far
    as needed. class_names: the K names, label i + 1 is ``class_names[i]``. score_threshold: lower
    scores are left out. batch_size: images per forward pass; it does not change the detections.
    workers: processes that read. machine: by default the model's device, float32. keep_images:
    predictions carry their image.

    An image that cannot be read gives a Prediction with ``error`` and no boxes. Raises UserError
    at once where the names do not fit the model or a number makes no sense.
    """
    _refuse_misfits(model, images, class_names, score_threshold, batch_size, workers)
    machine = machine or Machine(next(model.parameters()).device, "fp32")
    return _stream(
        Detector(model, machine),
        _batches(_read_all(images, batch_size, workers), batch_size),
        tuple(class_names),
        score_threshold,
        keep_images,
    )


def _refuse_misfits(
    model: RetinaNet,
    images: Iterable[ImageSource],
    class_names: Sequence[str],
    score_threshold: float,
    batch_size: int,
    workers: int,
) -> None:
    classes = model.head.classification_head.num_classes - 1
    if len(class_names) != classes:
        raise UserError(
            f"class_names: {len(class_names)} names for a model of {classes} classes (background "
            "not counted); give the names it was trained with, in that order."
        )
    if isinstance(images, (str, Path, Image.Image)):
        raise UserError("images: a single image; give a list of images, [image].")
    if not 0 <= score_threshold <= 1:
        raise UserError(f"score_threshold {score_threshold}: expected 0 to 1.")
    if score_threshold < model.score_thresh:
        raise UserError(
            f"score_threshold {score_threshold:g}: the model itself discards scores below "
            f"{model.score_thresh:g}; build it with a lower score_thresh."
        )
    if batch_size < 1 or workers < 0:
        raise UserError(
            f"batch_size {batch_size}, workers {workers}: expected at least 1 and at least 0."
        )


class _Read(NamedTuple):
    """An image as a reader hands it on: upright PIL RGB, or why there is none."""

    source: Path | None
    image: Image.Image | None = None
    error: str | None = None


class _Reader(Dataset):
    """Indexed by the images themselves, so that a loader may be fed from a generator."""

    def __getitem__(self, source: ImageSource) -> _Read:
        path = None if isinstance(source, Image.Image) else Path(source)
        try:
            # Pillow warns of large images and odd EXIF; neither prevents detection.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if isinstance(source, Image.Image):
                    image = source.convert("RGB")
                else:
                    image = read_image(Path(source))
        except Exception as error:  # Pillow raises errors of all kinds at damaged files
            cause = error.__cause__ or error.__context__
            shown = cause if isinstance(cause, Exception) else error
            return _Read(path, error=why_unreadable(shown, path))
        image.info = {}  # thumbnails and the like need not travel between processes
        return _Read(path, image)


def _as_it_is(item: Any) -> Any:
    return item


def _read_all(images: Iterable[ImageSource], batch_size: int, workers: int) -> Iterable[_Read]:
    """In the order of ``images``, at most about a batch of them read ahead.

    The workers hand on PIL images, which travel through pipes: whole photographs would soon fill
    the 64 MB of shared memory that a container has.
    """
    return DataLoader(
        _Reader(),
        sampler=images,
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=partial(keep_limits, max_megapixels()),
        prefetch_factor=-(-batch_size // workers) if workers else None,
    )


def _batches(items: Iterable[_Read], size: int) -> Iterator[list[_Read]]:
    """Lists of ``size``, or fewer where the images are large."""
    batch: list[_Read] = []
    pixels = 0
    for item in items:
        batch.append(item)
        pixels += item.image.width * item.image.height if item.image else 0
        if len(batch) == size or pixels >= PIXELS_PER_BATCH:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


def _stream(
    detector: Detector,
    batches: Iterable[list[_Read]],
    class_names: tuple[str, ...],
    score_threshold: float,
    keep_images: bool,
) -> Iterator[Prediction]:
    index = 0
    for batch in batches:
        _, outputs = detector([F.pil_to_tensor(read.image) for read in batch if read.image])
        remaining = iter(outputs)
        for read in batch:
            detections = _objects(next(remaining), score_threshold) if read.image else _nothing()
            yield Prediction(
                index=index,
                source=read.source,
                size=read.image.size if read.image else (0, 0),
                detections=detections,
                names=tuple(class_names[label - 1] for label in detections.labels),
                error=read.error,
                image=read.image if keep_images else None,
            )
            index += 1


def _objects(detections: Detections, score_threshold: float) -> Detections:
    """Those at the threshold whose box has an area."""
    above = detections.above(score_threshold)
    return above.keep(np.all(above.boxes[:, :2] < above.boxes[:, 2:], axis=1))


def _nothing() -> Detections:
    return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
