"""One pass of a RetinaNet that gives the losses and the detections at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import clip_boxes_to_image

Losses = dict[str, Tensor]
Detection = dict[str, Tensor]


def losses_and_detections(
    model: RetinaNet, images: Sequence[Tensor], targets: Sequence[Any] | None
) -> tuple[Losses, list[Detection]]:
    """Validation losses and detections from a single forward pass.

    images: (3, H, W), float in 0..1 or, for ours, uint8; there may be none. targets: ``boxes``
    float (N, 4) xyxy pixels, ``labels``; None leaves the losses empty. Torchvision's forward gives
    the losses in training mode and the detections in evaluation mode; a validation needs both, with
    batch norm in evaluation mode. Detections are in pixels of the original images, inside them.

    Only images that are resized to one size share a forward pass: padding an image to the size of
    another would reach its features through the squeeze-and-excitation means, and the detections
    of an image must not depend on its batch.
    """
    detections: list[Detection] = [{} for _ in images]
    totals: Losses = {}
    for group in _by_resized_size(model, images, targets):
        losses, of_group = _forward(model, group)
        for row, detection in zip(group.rows, of_group, strict=True):
            boxes = clip_boxes_to_image(detection["boxes"], images[row].shape[-2:])
            detections[row] = {**detection, "boxes": boxes}
        for name, loss in losses.items():
            totals[name] = totals.get(name, 0) + loss * (len(group.rows) / len(images))
    return totals, detections


class _Group(NamedTuple):
    """Images of one resized size. rows: where they are in the batch. sizes: (height, width) before.

    targets: with boxes scaled like their images; empty without targets.
    """

    rows: list[int]
    sizes: list[tuple[int, int]]
    batch: ImageList
    targets: list[dict[str, Tensor]]


def _by_resized_size(
    model: RetinaNet, images: Sequence[Tensor], targets: Sequence[Any] | None
) -> list[_Group]:
    inputs = []
    rows_of_size: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row, image in enumerate(images):
        target = targets and [{name: targets[row][name] for name in ("boxes", "labels")}]
        inputs.append(model.transform([image], target))
        rows_of_size[inputs[row][0].image_sizes[0]].append(row)
    return [
        _Group(
            rows,
            [(images[row].shape[-2], images[row].shape[-1]) for row in rows],
            ImageList(torch.cat([inputs[row][0].tensors for row in rows]), [size] * len(rows)),
            [target for row in rows for target in inputs[row][1] or ()],
        )
        for size, rows in rows_of_size.items()
    ]


def _forward(model: RetinaNet, group: _Group) -> tuple[Losses, list[Detection]]:
    batch = group.batch
    features = list(model.backbone(batch.tensors).values())
    outputs = model.head(features)
    anchors = model.anchor_generator(batch, features)
    losses = model.compute_loss(group.targets, outputs, anchors) if group.targets else {}

    anchors_per_location = model.anchor_generator.num_anchors_per_location()
    per_level = [
        f.shape[-2] * f.shape[-1] * n for f, n in zip(features, anchors_per_location, strict=True)
    ]
    detections = model.postprocess_detections(
        {name: list(output.split(per_level, dim=1)) for name, output in outputs.items()},
        [list(a.split(per_level)) for a in anchors],
        batch.image_sizes,
    )
    return losses, model.transform.postprocess(detections, batch.image_sizes, group.sizes)
