"""One pass of a RetinaNet that gives the losses and the detections at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import RetinaNet

Losses = dict[str, Tensor]
Detection = dict[str, Tensor]


def losses_and_detections(
    model: RetinaNet, images: Sequence[Tensor], targets: Sequence[Any] | None
) -> tuple[Losses, list[Detection]]:
    """Validation losses and detections from a single forward pass.

    images: (3, H, W), float in 0..1 or, for ours, uint8. targets: ``boxes`` float (N, 4) xyxy
    pixels, ``labels``; None leaves the losses empty. Torchvision's forward gives the one in
    training and the other in evaluation mode; a validation wants both, with batch norm in
    evaluation mode. Detections are in pixels of the images given.

    Only images of one size share a forward pass: padding a picture to the size of its neighbours
    would reach its features through the squeeze-and-excitation means, and the detections of a
    picture must not depend on the batch it came in.
    """
    rows_of_size: dict[torch.Size, list[int]] = defaultdict(list)
    for row, image in enumerate(images):
        rows_of_size[image.shape].append(row)
    detections: list[Detection] = [{} for _ in images]
    totals: Losses = {}
    for rows in rows_of_size.values():
        wanted = None if targets is None else [targets[i] for i in rows]
        losses, found = _forward(model, [images[i] for i in rows], wanted)
        for row, detection in zip(rows, found, strict=True):
            detections[row] = detection
        for name, loss in losses.items():
            totals[name] = totals.get(name, 0) + loss * (len(rows) / len(images))
    return totals, detections


def _forward(
    model: RetinaNet, images: list[Tensor], targets: list[Any] | None
) -> tuple[Losses, list[Detection]]:
    sizes = [(image.shape[-2], image.shape[-1]) for image in images]
    boxes = targets and [{"boxes": t["boxes"], "labels": t["labels"]} for t in targets]
    batch, scaled = model.transform(images, boxes)
    features = list(model.backbone(batch.tensors).values())
    outputs = model.head(features)
    anchors = model.anchor_generator(batch, features)
    losses = model.compute_loss(scaled, outputs, anchors) if scaled else {}

    anchors_per_location = model.anchor_generator.num_anchors_per_location()
    per_level = [
        f.shape[-2] * f.shape[-1] * n for f, n in zip(features, anchors_per_location, strict=True)
    ]
    detections = model.postprocess_detections(
        {name: list(output.split(per_level, dim=1)) for name, output in outputs.items()},
        [list(a.split(per_level)) for a in anchors],
        batch.image_sizes,
    )
    return losses, model.transform.postprocess(detections, batch.image_sizes, sizes)
