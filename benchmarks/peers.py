"""The detectors that are compared."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import efficientnet_b0
from torchvision.models.detection import RetinaNet, retinanet_resnet50_fpn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from benchmarks.same_weights import copy_weights
from model.checkpoint import load_checkpoint
from model.efficient_retinanet import get_efficient_retinanet
from model.for_inference import for_inference
from utils.hardware import Machine

CHANNELS = [40, 80, 112, 192, 320, 1280]
CANDIDATES = 300
THRESHOLD = 0.05
REFERENCE = "reference b0, fp32"
Images = list[Tensor]
Targets = list[dict[str, Tensor]]


@dataclass(frozen=True)
class Peer:
    """A detector, its device and precision. is_effdet: it is called in effdet's way."""

    model: nn.Module
    machine: Machine
    is_effdet: bool = False


def our_b0(image_size: int, photographs: Images, checkpoint: Path | None) -> RetinaNet:
    """A checkpoint's model; without one random weights, scaled to give a trained one's detections.

    With fresh random weights every anchor has the same score, and post-processing nothing to do.
    """
    if checkpoint:
        trained = load_checkpoint(checkpoint)
        model = get_efficient_retinanet(
            len(trained.description.class_names) + 1,
            backbone_weights="none",
            image_size=image_size,
            anchor_scale=trained.description.anchor_scale,
            freeze_batch_norm=trained.description.frozen_batch_norm,
        )
        model.load_state_dict(trained.weights)
        return model.eval()
    torch.manual_seed(0)
    model = get_efficient_retinanet(7, backbone_weights="none", image_size=image_size)
    _spread_scores(model, photographs)
    return model.eval()


@torch.no_grad()
def _spread_scores(model: RetinaNet, photographs: Images) -> None:
    norms = {m: m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)}
    for norm in norms:
        norm.momentum = 0.5
    batch = model.train().transform(photographs[:2])[0].tensors
    for _ in range(4):
        model.backbone(batch * torch.rand(1) + torch.randn(1, 3, 1, 1) * 0.3)
    for norm, momentum in norms.items():
        norm.momentum = momentum
    scores, boxes = model.head.classification_head, model.head.regression_head
    for module in model.head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    scores.cls_logits.weight.mul_(0.1)
    boxes.bbox_reg.weight.mul_(0.05)
    features = list(model.eval().backbone(batch).values())
    least = scores(features)[0].flatten().topk(CANDIDATES).values[-1]
    scores.cls_logits.bias.add_(torch.logit(torch.tensor(THRESHOLD)) - least)


def reference_b0(ours: RetinaNet, image_size: int) -> RetinaNet:
    """Torchvision's parts, put together as the original project does, with our weights."""
    body = BackboneWithFPN(
        efficientnet_b0(weights=None).features,
        return_layers={str(stage): str(tap) for tap, stage in enumerate(range(3, 9))},
        in_channels_list=CHANNELS,
        out_channels=256,
        extra_blocks=LastLevelP6P7(256, 256),
    )
    anchors = ours.anchor_generator
    reference = RetinaNet(
        body,
        ours.head.classification_head.num_classes,
        anchor_generator=AnchorGenerator(anchors.sizes, anchors.aspect_ratios),
        min_size=image_size,
        max_size=image_size,
        score_thresh=ours.score_thresh,
        nms_thresh=ours.nms_thresh,
        topk_candidates=ours.topk_candidates,
        detections_per_img=ours.detections_per_img,
    )
    copy_weights(ours, reference)
    return reference.eval()


def resnet50(image_size: int, classes: int) -> RetinaNet:
    """Torchvision's own RetinaNet; classes with background."""
    sizes = {"min_size": image_size, "max_size": image_size}
    return retinanet_resnet50_fpn(num_classes=classes, weights_backbone=None, **sizes).eval()


def effdet_d0(task: str, size: tuple[int, int], classes: int) -> nn.Module | None:
    """EfficientDet-D0; None where effdet is not installed or cannot take that size."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from effdet import create_model
    except ImportError:
        return None
    if any(side % 128 for side in size):
        return None
    logging.disable(logging.WARNING)
    return create_model(
        "tf_efficientdet_d0",
        bench_task=task,
        num_classes=classes - 1,
        pretrained_backbone=False,
        image_size=size,
        bench_labeler=True,
        max_det_per_image=100,
    )


NAMES = (
    REFERENCE,
    "torchvision resnet50, fp32",
    "effdet d0, fp32",
    "ours b0, fp32",
    "ours b0, bf16",
)


def machines(device: torch.device) -> dict[str, Machine]:
    """Device and precision of each of ours, by name."""
    return {name: Machine(device, name.split()[-1]) for name in NAMES if name.startswith("ours")}


def one_peer(
    name: str, ours: RetinaNet, work: str, size: tuple[int, int], device: torch.device
) -> Peer | None:
    """One of ``NAMES``, on the device; None if unavailable. work: inference or training."""
    machine = Machine(device, "bf16" if name.endswith("bf16") else "fp32")
    side, classes = max(size), ours.head.classification_head.num_classes
    model: nn.Module | None
    if name == REFERENCE:
        model = reference_b0(ours, side)
    elif name.startswith("torchvision"):
        model = resnet50(side, classes)
    elif name.startswith("effdet"):
        model = effdet_d0("predict" if work == "inference" else "train", size, classes)
    else:
        model = for_inference(ours, machine) if work == "inference" else copy.deepcopy(ours)
    return model and Peer(model.to(device), machine, is_effdet=name.startswith("effdet"))


def runner(peer: Peer, work: str, images: Images, targets: Targets) -> Callable[[], Any]:
    """A function that does the work once. work: inference or training.

    images: float (3, H, W) in 0..1, of one size, on the device; targets: theirs.
    """
    return _inference(peer, images) if work == "inference" else _training(peer, images, targets)


def _inference(peer: Peer, images: Images) -> Callable[[], Any]:
    """Detect in a batch."""
    model = peer.model.eval()
    batch: Any = torch.stack(images) if peer.is_effdet else images

    @torch.inference_mode()
    def detect() -> Any:
        with peer.machine.autocast():
            return _finished(model(batch), peer)

    return detect


def _training(peer: Peer, images: Images, targets: Targets) -> Callable[[], Any]:
    """A step: losses, gradients, AdamW."""
    model = peer.model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    batch: Sequence[Any] = (images, targets)
    if peer.is_effdet:
        boxes = [t["boxes"][:, [1, 0, 3, 2]] for t in targets]
        labels = {"bbox": boxes, "cls": [t["labels"].float() for t in targets]}
        batch = (torch.stack(images), labels)

    def step() -> Any:
        with peer.machine.autocast():
            losses = model(*batch)
            loss = losses["loss"] if peer.is_effdet else sum(losses.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return _finished(losses, peer)

    return step


def _finished(result: Any, peer: Peer) -> Any:
    if peer.machine.device.type == "cuda":
        torch.cuda.synchronize(peer.machine.device)
    return result
