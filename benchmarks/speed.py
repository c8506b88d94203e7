"""How fast the detector is beside what it is built from: ``python -m benchmarks.speed``.

Side by side in one process, repeats interleaved, medians and their ratios. The *reference* is
torchvision's ``RetinaNet`` over torchvision's ``efficientnet_b0().features`` with
``BackboneWithFPN``, tapped at the same stages, in float32, eager: what the original project runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchvision.models import efficientnet_b0
from torchvision.models.detection import RetinaNet, retinanet_resnet50_fpn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from model.efficient_retinanet import get_efficient_retinanet, make_anchor_generator
from utils.hardware import Machine

NUM_CLASSES = 7
CHANNELS = [40, 80, 112, 192, 320, 1280]


def reference_b0(image_size: int) -> RetinaNet:
    """Torchvision's parts, put together as the original project does."""
    features = efficientnet_b0(weights=None).features
    backbone = BackboneWithFPN(
        features,
        return_layers={str(stage): str(tap) for tap, stage in enumerate(range(3, 9))},
        in_channels_list=CHANNELS,
        out_channels=256,
        extra_blocks=LastLevelP6P7(256, 256),
    )
    return RetinaNet(
        backbone,
        NUM_CLASSES,
        anchor_generator=make_anchor_generator(),
        min_size=image_size,
        max_size=image_size,
        detections_per_img=100,
    )


def resnet50(image_size: int) -> RetinaNet:
    return retinanet_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=NUM_CLASSES,
        min_size=image_size,
        max_size=image_size,
    )


def ours(image_size: int) -> RetinaNet:
    return get_efficient_retinanet(NUM_CLASSES, backbone_weights="none", image_size=image_size)


def pictures(count: int, image_size: int, device: torch.device) -> tuple[list, list]:
    """Noise with three boxes each; the work of a forward pass does not depend on the content."""
    generator = torch.Generator().manual_seed(0)
    shape = (3, image_size * 3 // 4, image_size)
    images = [torch.rand(shape, generator=generator).to(device) for _ in range(count)]
    corner = torch.tensor([[0.1, 0.1], [0.4, 0.2], [0.5, 0.5]]) * image_size * 0.75
    boxes = torch.cat([corner, corner + image_size * 0.2], dim=1).to(device)
    labels = torch.tensor([1, 2, 3], device=device)
    return images, [{"boxes": boxes, "labels": labels} for _ in range(count)]


def training_step(model: RetinaNet, machine: Machine, images: list, targets: list) -> Callable:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    model.train().to(machine.device)

    def step() -> None:
        with machine.autocast():
            loss: Tensor = sum(model(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def inference(model: RetinaNet, machine: Machine, images: list) -> Callable:
    model.eval().to(machine.device)

    @torch.no_grad()
    def detect() -> None:
        with machine.autocast():
            model(images)

    return detect


def interleaved_medians(
    works: dict[str, Callable[[], None]], repeats: int, device: torch.device
) -> dict[str, float]:
    """Median seconds of each; every repeat runs all of them, after a round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(repeats + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if repeat:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def measure(image_size: int, repeats: int, device: torch.device) -> list[dict]:
    exact, fast = Machine(device, "fp32"), Machine(device, "bf16")
    rows = []
    for work, batch in (("inference", 1), ("training step", 4)):
        images, targets = pictures(batch, image_size, device)
        candidates = {
            "reference b0, fp32": (reference_b0(image_size), exact),
            "torchvision resnet50, fp32": (resnet50(image_size), exact),
            "ours b0, fp32": (ours(image_size), exact),
            "ours b0, bf16": (ours(image_size), fast),
        }
        works = {
            name: inference(model, machine, images)
            if work == "inference"
            else training_step(model, machine, images, targets)
            for name, (model, machine) in candidates.items()
        }
        medians = interleaved_medians(works, repeats, device)
        base = medians["reference b0, fp32"]
        rows += [
            {
                "work": f"{work}, batch {batch}, {image_size} px",
                "model": name,
                "seconds": seconds,
                "times as fast": base / seconds,
            }
            for name, seconds in medians.items()
        ]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image-size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = measure(options.image_size, options.repeats, device)
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    title = f"{Machine(device, 'fp32')}; {versions}"
    table = Table(title=title)
    for column in rows[0]:
        table.add_column(column)
    for row in rows:
        table.add_row(*(f"{v:.3f}" if isinstance(v, float) else v for v in row.values()))
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps({"machine": title, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
