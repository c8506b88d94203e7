"""A detector on pictures without labels: they are read in worker processes and go in batches.

Everything streams: a picture is read shortly before its batch and let go of after it, so the
memory needed does not depend on how many there are.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.models.detection import RetinaNet
from torchvision.ops import clip_boxes_to_image
from torchvision.transforms.v2 import functional as F

from data.image_files.read import max_megapixels, read_image, why_unreadable
from data.loader import keep_limits
from model.for_inference import for_inference
from model.network.forward import losses_and_detections
from utils.errors import UserError
from utils.hardware import Machine

PIXELS_OF_A_BATCH = 50_000_000
"""A batch of large photographs ends early: as float32 this many take 600 MB."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a detector found in one picture, best score first. M may be 0.

    index: the picture's place among ``images``. source: its path; None for a picture in memory.
    size: (width, height) of the upright picture, (0, 0) if it could not be read.
    boxes: float32 (M, 4), xyxy, absolute pixels of the upright picture. labels: int64 (M,), 1..K.
    names: M class names. scores: float32 (M,), 0..1. All on the CPU.
    error: why the picture could not be read, one line without its path; None if it could.
    image: the upright picture, PIL RGB, if it was asked for.
    """

    index: int
    source: Path | None
    size: tuple[int, int]
    boxes: Tensor
    labels: Tensor
    names: tuple[str, ...]
    scores: Tensor
    error: str | None = None
    image: Image.Image | None = None


def predict(
    model: RetinaNet,
    images: Iterable[str | Path | Image.Image],
    class_names: Sequence[str],
    *,
    score_threshold: float = 0.5,
    batch_size: int = 8,
    workers: int = 0,
    machine: Machine | None = None,
    keep_images: bool = False,
) -> Iterator[Prediction]:
    """Detect objects in any number of pictures; yields one ``Prediction`` a picture, in order.

        model = get_efficient_retinanet(num_classes=3, backbone_weights="none")
        model.load_state_dict(...)
        for found in predict(model, Path("photos").glob("*.jpg"), ("ace", "king")):
            if found.error:
                print(f"{found.source}: {found.error}")
            for name, score, box in zip(found.names, found.scores, found.boxes):
                print(found.source, name, f"{score:.2f}", box.tolist())

    model: of ``get_efficient_retinanet`` or any torchvision RetinaNet; it stays as it is, and a
    copy is used, see ``for_inference``. images: paths, in any of
    ``data.image_files.decode.FORMATS``, turned upright as their EXIF says and of several frames the
    first; or PIL images, taken as they are. A generator is read only as far as needed. class_names:
    the K names, label i + 1 is ``class_names[i]``. score_threshold: lower scores are left out.
    batch_size: pictures a forward pass, where they are of one size; it changes the speed, not the
    detections. workers: processes that read. machine: device and precision; by default the model's
    device, float32. keep_images: predictions carry their picture; keep few of those.

    A picture that cannot be read gives a Prediction with ``error`` and no boxes. Raises UserError
    at once where the names do not fit the model or a number makes no sense.
    """
    _refuse_misfits(model, images, class_names, score_threshold, batch_size, workers)
    machine = machine or Machine(next(model.parameters()).device, "fp32")
    return _stream(
        _Detector(for_inference(model, machine), tuple(class_names), score_threshold, machine),
        _read_all(images, batch_size, workers),
        batch_size,
        keep_images,
    )


def _refuse_misfits(
    model: RetinaNet,
    images: Iterable[str | Path | Image.Image],
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
        raise UserError("images: a single picture; give a list of pictures, [picture].")
    if not 0 <= score_threshold <= 1:
        raise UserError(f"score_threshold {score_threshold}: expected 0 to 1.")
    if score_threshold < model.score_thresh:
        raise UserError(
            f"score_threshold {score_threshold:g}: the model itself throws away scores below "
            f"{model.score_thresh:g}; build it with a lower score_thresh."
        )
    if batch_size < 1 or workers < 0:
        raise UserError(
            f"batch_size {batch_size}, workers {workers}: expected at least 1 and at least 0."
        )


@dataclass(frozen=True, eq=False)
class _Read:
    """A picture as a reader hands it on: upright PIL RGB, or why there is none."""

    source: Path | None
    image: Image.Image | None = None
    error: str | None = None


class _Reader(Dataset):
    """Indexed by the pictures themselves, so that a loader may be fed from a generator."""

    def __getitem__(self, source: str | Path | Image.Image) -> _Read:
        path = None if isinstance(source, Image.Image) else Path(source)
        try:
            # What Pillow warns of (a large picture, odd EXIF) does not keep it from being seen.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if isinstance(source, Image.Image):
                    image = source.convert("RGB")
                else:
                    image = read_image(Path(source))
        except Exception as error:  # Pillow's readers raise of all kinds at damaged files
            return _Read(path, error=_reason(error, path))
        image.info = {}  # thumbnails and the like need not travel between processes
        return _Read(path, image)


def _reason(error: Exception, path: Path | None) -> str:
    """Why a picture cannot be read, without its path: whoever shows the line has that."""
    cause = error.__cause__ or error.__context__ or error
    return why_unreadable(cause if isinstance(cause, Exception) else error, path)


def _as_it_is(item: Any) -> Any:
    return item


def _read_all(
    images: Iterable[str | Path | Image.Image], batch_size: int, workers: int
) -> Iterable[_Read]:
    """Pictures in the order of ``images``, at most about a batch of them read ahead.

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
    """Of ``size``, or fewer where the pictures are large."""
    batch: list[_Read] = []
    pixels = 0
    for item in items:
        batch.append(item)
        pixels += item.image.width * item.image.height if item.image else 0
        if len(batch) == size or pixels >= PIXELS_OF_A_BATCH:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


def _stream(
    detector: _Detector, pictures: Iterable[_Read], batch_size: int, keep_images: bool
) -> Iterator[Prediction]:
    index = 0
    for batch in _batches(pictures, batch_size):
        for read, (boxes, labels, scores) in zip(batch, detector(batch), strict=True):
            yield Prediction(
                index=index,
                source=read.source,
                size=read.image.size if read.image else (0, 0),
                boxes=boxes,
                labels=labels,
                names=tuple(detector.class_names[label - 1] for label in labels.tolist()),
                scores=scores,
                error=read.error,
                image=read.image if keep_images else None,
            )
            index += 1


@dataclass(frozen=True)
class _Detector:
    """Calling it gives boxes (M, 4), labels (M,) and scores (M,) of each picture of a batch."""

    model: RetinaNet
    class_names: tuple[str, ...]
    score_threshold: float
    machine: Machine

    @torch.no_grad()
    def __call__(self, batch: Sequence[_Read]) -> list[tuple[Tensor, Tensor, Tensor]]:
        images = [self._pixels(read.image) for read in batch if read.image]
        with self.machine.autocast():
            _, detections = losses_and_detections(self.model, images, None)
        found = iter(
            self._kept(detection, image.shape[-2:])
            for detection, image in zip(detections, images, strict=True)
        )
        return [next(found) if read.image else self._nothing() for read in batch]

    def _pixels(self, image: Image.Image) -> Tensor:
        """(3, H, W) in 0..1, it travels to the device in eight bits."""
        pixels = F.pil_to_tensor(image).to(self.machine.device)
        return F.to_dtype(pixels, torch.float32, scale=True)

    def _kept(
        self, detection: dict[str, Tensor], size: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Objects at the threshold with an area inside the picture; label 0 is background."""
        boxes = clip_boxes_to_image(detection["boxes"].float(), (size[0], size[1]))
        labels, scores = detection["labels"], detection["scores"].float()
        keep = (scores >= self.score_threshold) & (labels > 0)
        keep &= (boxes[:, :2] < boxes[:, 2:]).all(dim=1)
        return boxes[keep].cpu(), labels[keep].cpu(), scores[keep].cpu()

    def _nothing(self) -> tuple[Tensor, Tensor, Tensor]:
        return torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0)
