"""The pictures a run or a monitor leaves: curves, and detections beside ground truth."""

from __future__ import annotations

from pathlib import Path

import torch
from torchvision.models.detection import RetinaNet
from torchvision.transforms.v2 import functional as F

from data.dataset import Dataset
from utils.hardware import Machine
from utils.run_folder import CURVES, METRICS_FILE, read_metrics
from utils.visualisation import draw_boxes, draw_curves, image_grid

IMAGES_SHOWN = 12


def save_curves(run: Path) -> None:
    """Losses, mAP and learning rate over the epochs of ``metrics.csv``, as one PNG."""
    rows = read_metrics(run / METRICS_FILE)

    def column(name: str) -> list[float]:
        return [row.get(name, float("nan")) for row in rows]

    panels = {
        "loss": {
            "training": column("loss"),
            "classification": column("loss_classification"),
            "boxes": column("loss_bbox_regression"),
            "validation": column("val_loss"),
        },
        "validation mAP": {name: column(name) for name in ("mAP", "mAP50", "mAP75")},
        "learning rate": {"learning rate": column("learning_rate")},
    }
    draw_curves(panels, [int(row["epoch"]) for row in rows], run / CURVES)


@torch.no_grad()
def save_detections(
    model: RetinaNet, dataset: Dataset, machine: Machine, path: Path, *, threshold: float
) -> None:
    """A grid of images spread over the data set: ground truth left, detections right.

    model: in evaluation mode, on ``machine.device``. threshold: scores below are not drawn.
    """
    count = min(IMAGES_SHOWN, len(dataset))
    names = dataset.class_names
    pairs = []
    for index in (i * len(dataset) // count for i in range(count)):
        sample = dataset.sample(index)
        image = F.to_dtype(F.pil_to_tensor(sample.image), torch.float32, scale=True)
        with machine.autocast():
            found = model([image.to(machine.device)])[0]
        keep = found["scores"] >= threshold
        labels, true_labels = found["labels"][keep].tolist(), sample.labels.tolist()
        scores = found["scores"][keep].tolist()
        captions = [f"{names[k - 1]} {s:.2f}" for k, s in zip(labels, scores, strict=True)]
        truth = draw_boxes(
            sample.image, sample.boxes.tolist(), true_labels, [names[k - 1] for k in true_labels]
        )
        detections = draw_boxes(sample.image, found["boxes"][keep].tolist(), labels, captions)
        pairs.append((truth, detections))
    image_grid(pairs, ("ground truth", f"detections, score >= {threshold:g}")).save(path)
