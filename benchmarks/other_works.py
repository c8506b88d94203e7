"""What a run spends time on besides the detector: loading, computing the mAP, starting."""

from __future__ import annotations

import copy
import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F

from benchmarks.photographs import training_split
from data import open_dataset
from data.augmentation import TrainingTransform, training_canvas
from data.dataset import Dataset
from data.loader import collate_fn, make_loader
from evaluation.metrics.coco import CocoEvaluation
from evaluation.metrics.pycocotools_reference import coco_input, run_pycocotools
from evaluation.metrics.results import Detections, GroundTruth, ImageResult
from model.checkpoint import load_checkpoint
from model.for_inference import for_inference
from utils.hardware import Machine

BATCH = 8
PYCOCOTOOLS, OURS = "pycocotools", "ours"
BUILD_TORCHVISION = """
from torchvision.models import efficientnet_b0
from torchvision.models.detection import retinanet_resnet50_fpn
efficientnet_b0(weights=None), retinanet_resnet50_fpn(weights=None, weights_backbone=None)
"""
BUILD_OURS = """
from model.efficient_retinanet import get_efficient_retinanet
get_efficient_retinanet(7, backbone_weights="none")
"""


class TableScanned(torch.utils.data.Dataset):
    """How the original reads an item: scan the whole table for its rows, then decode its file."""

    def __init__(self, cards: Path, split: Dataset) -> None:
        with open(cards / "train_labels.csv", newline="", encoding="utf-8-sig") as file:
            self.table = list(csv.DictReader(file))
        self.paths = [split.path(i) for i in range(len(split))]
        self.labels = {name: i for i, name in enumerate(split.class_names, start=1)}
        self.transform: Any = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, Any]]:
        path = self.paths[index]
        rows = [row for row in self.table if row["filename"] == path.name]
        sides = ("xmin", "ymin", "xmax", "ymax")
        target = {
            "boxes": torch.tensor([[float(row[side]) for side in sides] for row in rows]),
            "labels": torch.tensor([self.labels[row["class"]] for row in rows]),
        }
        return F.to_image(Image.open(path).convert("RGB")), target


def loaders(cards: Path) -> dict[str, Callable[[], Any]]:
    """An epoch of the training split at its own sizes; ours with and without its cache."""
    split = training_split(cards)
    scanned = TableScanned(cards, split)
    transform = TrainingTransform(training_canvas((size for _, size in split.sizes()), 512))
    augmented = split.cached().with_transform(transform)
    named = {
        "as the original: scan the table, decode": torch.utils.data.DataLoader(
            scanned, batch_size=BATCH, collate_fn=collate_fn
        ),
        "ours, decoded each time": make_loader(split, BATCH),
        "ours, --cache": make_loader(split.cached(), BATCH),
        "ours, --cache, with augmentation at 512 px": make_loader(augmented, BATCH, shuffle=True),
    }
    return {name: lambda loader=loader: list(loader) for name, loader in named.items()}


def detections(images: int, classes: int) -> list[ImageResult]:
    """About 7 objects and 100 detections per image; some detections are close to an object."""
    random = np.random.default_rng(0)
    return [_image(random, number, classes) for number in range(1, images + 1)]


def _image(random: np.random.Generator, number: int, classes: int) -> ImageResult:
    count = int(random.integers(1, 14))
    corners = random.uniform(0, 400, (count, 2))
    gt_boxes = np.concatenate([corners, corners + random.uniform(8, 200, (count, 2))], axis=1)
    gt_labels = random.integers(1, classes + 1, count)
    nearest = random.integers(count, size=100)
    is_close = random.random(100) < 0.4
    boxes = gt_boxes[nearest] + random.normal(0, 8, (100, 4))
    boxes[~is_close] += random.uniform(-200, 200, (int((~is_close).sum()), 1))
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    labels = np.where(is_close, gt_labels[nearest], random.integers(1, classes + 1, 100))
    scores = random.random(100)
    truth = GroundTruth(gt_boxes, gt_labels, np.zeros(count, dtype=bool))
    return ImageResult(number, truth, Detections(boxes, scores, labels))


def scorers(images: int, classes: int = 20) -> dict[str, Callable[[], np.ndarray]]:
    """Each gives COCO's twelve numbers of the same detections."""
    results = detections(images, classes)
    names = [str(number) for number in range(classes)]
    prepared = coco_input(results, names)
    return {
        PYCOCOTOOLS: lambda: np.asarray(run_pycocotools(*copy.deepcopy(prepared)).stats),
        OURS: lambda: np.asarray(CocoEvaluation(results, names).metrics.summary),
    }


@torch.no_grad()
def validation_map(checkpoint: Path, cards: Path, machine: Machine) -> float:
    """The mAP of the checkpoint's detector on the validation photographs."""
    trained = load_checkpoint(checkpoint)
    detector = for_inference(trained.build_model(), machine)
    names = trained.description.class_names
    results = []
    for images, targets in make_loader(open_dataset(cards).validation.renamed_to(names), BATCH):
        with machine.autocast():
            predicted = detector([image.to(machine.device) for image in images])
        results += [
            ImageResult.from_target(t, Detections.from_tensors(d))
            for t, d in zip(targets, predicted, strict=True)
        ]
    return CocoEvaluation(results, names).metrics.map


def starters() -> dict[str, Callable[[], Any]]:
    """Processes that exit as soon as they could begin to work."""
    commands = {
        "import torchvision, build b0 and a RetinaNet": ["-c", BUILD_TORCHVISION],
        "import ours, build b0": ["-c", BUILD_OURS],
        "python main.py --help": ["main.py", "--help"],
        "python main.py -l missing.pth": ["main.py", "-l", "missing.pth"],
    }
    return {name: lambda command=command: _run(command) for name, command in commands.items()}


def _run(command: list[str]) -> None:
    subprocess.run([sys.executable, "-W", "ignore", *command], capture_output=True)
