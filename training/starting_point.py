"""The detector that a training run starts with: a new one, or a checkpoint's."""

from __future__ import annotations

import dataclasses

from model.checkpoint import Checkpoint, DetectorDescription
from model.efficient_retinanet import get_efficient_retinanet
from model.network.backbone_weights import find_backbone_weights
from model.network.retinanet import BatchedRetinaNet
from utils.console import say


def new_detector(
    description: DetectorDescription, backbone_weights: str
) -> tuple[DetectorDescription, BatchedRetinaNet]:
    """A detector as described, and its description once the backbone's weights are known.

    backbone_weights: ``auto``, ``imagenet``, ``none`` or a path; batch norm is frozen, and layers
    too, only where they are pretrained.
    """
    weights = find_backbone_weights(description.model_name, backbone_weights)
    say("weights", f"the backbone's are from {weights.origin}")
    model = get_efficient_retinanet(
        num_classes=len(description.class_names) + 1,
        efficientnet_model_name=description.model_name,
        trainable_backbone_layers=description.trainable_layers,
        backbone_weights=weights,
        image_size=description.image_size,
        anchor_scale=description.anchor_scale,
    )
    layers = description.trainable_layers if weights.pretrained else None
    described = dataclasses.replace(
        description, frozen_batch_norm=weights.pretrained, trainable_layers=layers
    )
    return described, model


def load_start(model: BatchedRetinaNet, start: Checkpoint, class_names: tuple[str, ...]) -> None:
    """Load a checkpoint's weights; those of the class layer only where the classes are the same.

    Raises UserError where they do not fit.
    """
    classes = start.description.class_names
    if classes == class_names:
        start.load_into(model)
    else:
        say(
            "note",
            f"the checkpoint's classes are {', '.join(classes)}: the layer that names classes "
            "starts anew",
        )
        start.load_into(model, skip="classification_head.cls_logits.")
    say("weights", f"from {start.path}, epoch {start.epoch}")
