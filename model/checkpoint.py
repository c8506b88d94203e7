"""Checkpoints that describe themselves, written completely or not at all.

``best.pth`` and ``last.pth`` both hold ``detector`` (what rebuilds the model, as plain values) and
``weights`` (its averaged weights); ``last.pth`` also holds the state that resumes a run. Tensors
and plain types only, so that both load with ``weights_only=True``.
"""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor
from torchvision.models.detection import RetinaNet

from evaluation.metrics.operating_point import LOWEST_SCORE, score_threshold
from model.efficient_retinanet import get_efficient_retinanet
from model.network.backbone_weights import RANDOM_WEIGHTS, WEIGHTS_FOLLOW, BackboneWeights
from model.network.efficientnet_family import IMAGENET, Normalization
from utils.errors import UserError
from utils.safe_load import load_plain

FORMAT_VERSION = 2  # 2: with image_mean, image_std and backbone_origin
LARGEST_IMAGE_SIZE = 2**15  # pixels; a larger value means a damaged file


@dataclass(frozen=True)
class DetectorDescription:
    """Everything that rebuilds a detector, and its data set.

    class_names: the K names, label i + 1 is ``class_names[i]``. image_size: pixels of the longer
    side. trainable_layers: of the backbone, None for all. image_mean, image_std: of an image in
    0..1. backbone_origin: of its first weights; empty in files of older versions. data: plain
    values that describe the data set it was trained on.
    """

    model_name: str
    class_names: tuple[str, ...]
    image_size: int = 512
    anchor_scale: float = 1.0
    frozen_batch_norm: bool = False
    trainable_layers: int | None = None
    image_mean: tuple[float, ...] = IMAGENET.mean
    image_std: tuple[float, ...] = IMAGENET.std
    backbone_origin: str = ""
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def pretrained(self) -> bool:
        """Whether the backbone began with weights that had been trained."""
        if not self.backbone_origin:
            return self.frozen_batch_norm  # older versions froze exactly those
        return self.backbone_origin != RANDOM_WEIGHTS.origin

    def build(
        self, score_thresh: float = LOWEST_SCORE, backbone_weights: BackboneWeights = WEIGHTS_FOLLOW
    ) -> RetinaNet:
        """The model, by default for weights that are loaded afterwards."""
        return get_efficient_retinanet(
            num_classes=len(self.class_names) + 1,
            efficientnet_model_name=self.model_name,
            trainable_backbone_layers=self.trainable_layers,
            score_thresh=score_thresh,
            backbone_weights=backbone_weights,
            image_size=self.image_size,
            anchor_scale=self.anchor_scale,
            freeze_batch_norm=self.frozen_batch_norm,
            normalization=Normalization(self.image_mean, self.image_std),
        )

    def as_plain(self) -> dict[str, Any]:
        """For a checkpoint: plain types only."""
        plain = {**asdict(self), "format": FORMAT_VERSION}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    epoch: counted from 1. metrics: those of its epoch, empty without a validation.
    score_threshold: as its validation recommended, None without one. training: the state of the run
    (``learning_rate``, the peak; ``steps``, ``planned_steps`` and ``warmup_steps``; ``images`` and
    ``loss`` of the last epoch); empty in files of older versions. flag: which it was given with.
    """

    path: Path
    description: DetectorDescription
    weights: dict[str, Tensor]
    epoch: int
    metrics: dict[str, float]
    score_threshold: float | None = None
    training: dict[str, float] = field(default_factory=dict)
    flag: str = "--load"

    @property
    def origin(self) -> str:
        """The flag and the file, for messages."""
        return f"{self.flag} {self.path}"

    def threshold(self, requested: float | None = None) -> float:
        """The score from which detections are shown: requested, else recommended, else 0.5."""
        return score_threshold(requested, self.score_threshold)

    def build_model(self, score_thresh: float = LOWEST_SCORE) -> RetinaNet:
        """The trained detector, in evaluation mode."""
        with self._readable_misfit():
            model = self.description.build(score_thresh)
            model.load_state_dict(self.weights)
        return model.eval()

    def load_into(self, model: RetinaNet, *, skip: str | None = None) -> None:
        """Copy the weights, but those with ``skip`` in their names, into a model of the same kind.

        Raises UserError when they do not fit.
        """
        weights = dict(self.weights)
        if skip is not None:
            weights |= {k: v for k, v in model.state_dict().items() if skip in k}
        with self._readable_misfit():
            model.load_state_dict(weights)

    @contextmanager
    def _readable_misfit(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, TypeError, ValueError, UserError) as error:
            raise UserError(
                f"{self.path}: its weights do not fit the {self.description.model_name} it "
                f"describes ({str(error).splitlines()[-1].strip()}); the file is damaged."
            ) from error

    def refuse_contradictions(self, **requested: Any) -> None:
        """Raise UserError when a flag contradicts the checkpoint; both values are named.

        requested: values by the names of ``DetectorDescription``'s fields; None if not given.
        """
        for name, value in requested.items():
            trained_with = getattr(self.description, name)
            if value is not None and value != trained_with:
                flag = "--" + name.removesuffix("_name").replace("_", "-")
                raise UserError(
                    f"{flag} {value}: the checkpoint {self.path} was trained with {trained_with}; "
                    "leave the flag out."
                )


def load_checkpoint(path: Path, flag: str = "--load") -> Checkpoint:
    """Read ``best.pth`` or ``last.pth``. Raises UserError naming flag, file and what is wrong."""
    if path.is_dir():
        raise UserError(
            f"{flag} {path}: is a folder; give a checkpoint in it, such as {path / 'best.pth'}."
        )
    if not path.is_file():
        raise UserError(f"{flag} {path}: no such file; give a checkpoint (.pth).")
    content = load_plain(
        path,
        f"{flag} {path}: not a checkpoint of plain tensors and values",
        "give the best.pth or last.pth of a run",
    )
    try:
        plain = dict(content["detector"])
        version = plain.pop("format")
        if version > FORMAT_VERSION:
            raise UserError(
                f"{flag} {path}: written by a newer version (format {version}, this program reads "
                f"{FORMAT_VERSION}); update the program."
            )
        return Checkpoint(
            path=path,
            description=_description(plain),
            weights=_weights(content["weights"]),
            # Lightning, which writes last.pth, counts epochs from 0.
            epoch=int(content.get("epoch", 0)) + ("pytorch-lightning_version" in content),
            metrics=dict(content.get("metrics", {})),
            score_threshold=_fraction(content.get("score_threshold")),
            training={k: float(v) for k, v in content.get("training", {}).items()},
            flag=flag,
        )
    except UserError:
        raise
    except Exception as error:  # any value of an untrusted file may be of any type
        raise UserError(
            f"{flag} {path}: loads, but does not describe a detector of this program "
            f"({error!r}); give the best.pth or last.pth of a run."
        ) from error


def _description(plain: dict[str, Any]) -> DetectorDescription:
    """Raises ValueError for values that this program does not write: the file is untrusted."""
    names = plain["class_names"]
    if not isinstance(names, list) or not all(isinstance(n, str) and n for n in names):
        raise ValueError("class_names is not a list of texts")
    if len(set(names)) < len(names):
        raise ValueError("class_names has a name twice")
    "".join(names).encode("utf-8")  # a lone surrogate can be neither printed nor saved
    lists = {name: tuple(value) for name, value in plain.items() if isinstance(value, list)}
    description = DetectorDescription(**{**plain, **lists})
    size, scale = description.image_size, description.anchor_scale
    if type(size) is not int or not 0 < size <= LARGEST_IMAGE_SIZE:
        raise ValueError(f"image_size {size!r}")
    if type(scale) not in (int, float) or not 0 < scale < math.inf:
        raise ValueError(f"anchor_scale {scale!r}")
    mean, std = description.image_mean, description.image_std
    if not (len(mean) == len(std) == 3 and all(map(math.isfinite, (*mean, *std))) and min(std) > 0):
        raise ValueError(f"image_mean {mean!r}, image_std {std!r}")
    if not isinstance(description.backbone_origin, str):
        raise ValueError("backbone_origin is no text")
    if not isinstance(description.data, dict):
        raise ValueError("data is not a dictionary")
    return description


def _weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    if not all(isinstance(n, str) and isinstance(t, Tensor) for n, t in state.items()):
        raise ValueError("weights holds more than names and tensors")
    return dict(state)


def _fraction(value: Any) -> float | None:
    if value is not None and not 0 <= value <= 1:
        raise ValueError(f"score_threshold {value}")
    return None if value is None else float(value)


def write_whole(content: Any, path: Path) -> None:
    """``torch.save`` beside ``path``, then rename: the file appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with open(temporary, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except RuntimeError as error:
        # After a Ctrl-C in torch.save its writer fails while it closes, and hides the reason.
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def refuse_to_resume(path: Path, epochs: int) -> None:
    """Raise UserError unless ``path`` holds a run that can be resumed up to ``epochs`` epochs."""
    content = load_plain(
        path,
        f"--resume {path}: not a checkpoint of plain tensors and values",
        "give the run's folder or its last.pth",
        mmap=True,
    )
    if not {"optimizer_states", "epoch"} <= content.keys():
        raise UserError(
            f"--resume {path}: holds a detector without the state of its run; give the run's "
            "folder or its last.pth, or start a new run with -t True -l."
        )
    done = int(content["epoch"]) + 1
    if done > epochs:
        raise UserError(
            f"--epochs {epochs}: the run {path.parent} has done {done} epochs already; give more "
            "to extend it."
        )


class WholeCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoints, written beside their path and then renamed.

    Lightning's own writer uses the system's temporary folder, and a move from there to another disk
    is a copy, which may be interrupted.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        write_whole(checkpoint, Path(path))
