"""Whether ours in float32 computes what the reference computes, on the images that are timed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torchvision.models.detection import RetinaNet

from benchmarks.peers import Images, Targets
from benchmarks.same_weights import mirrored

SAME_SCORES, SAME_BOXES = 1e-4, 1e-4  # boxes: of the longer side
SAME_LOSSES, SAME_GRADIENTS = 1e-4, 1e-3


@torch.no_grad()
def detections_agree(
    ours: torch.nn.Module, reference: RetinaNet, images: Images
) -> tuple[str, bool]:
    """The differences of scores and boxes as text, and whether they are small enough."""
    with exact_float32():
        detections, expected = ours(images), mirrored(reference.eval())(images)
    scores, boxes = detection_difference(detections, expected)
    count = sum(len(d["scores"]) for d in detections) / len(images)
    is_equal = scores <= SAME_SCORES and boxes <= SAME_BOXES * max(images[0].shape[-2:])
    return f"scores {scores:.0e}, boxes {boxes:.0e} px, {count:.0f} per image", is_equal


def losses_agree(
    ours: RetinaNet, reference: RetinaNet, images: Images, targets: Targets
) -> tuple[str, bool]:
    """The relative differences of losses and head gradients as text, and whether they are small
    enough. A gradient's difference is relative to the largest of its tensor."""
    with exact_float32():
        our_losses, our_gradients = _losses_and_gradients(ours, images, targets)
        losses, gradients = _losses_and_gradients(mirrored(reference.eval()), images, targets)
    pairs = zip(our_losses, losses, strict=True)
    loss = max(abs(a.item() - b.item()) / b.item() for a, b in pairs)
    pairs = zip(our_gradients, gradients, strict=True)
    gradient = max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)
    is_equal = loss <= SAME_LOSSES and gradient <= SAME_GRADIENTS
    return f"losses {loss:.0e}, gradients {gradient:.0e}", is_equal


def _losses_and_gradients(
    model: RetinaNet, images: Images, targets: Targets
) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """The losses, and the gradients of the head's parameters."""
    model.eval()
    model.training = True  # losses, while no norm moves and no block is skipped at random
    model.backbone.fpn.train()
    losses = list(model(images, targets).values())
    gradients = torch.autograd.grad(sum(losses), list(model.head.parameters()))
    model.eval()
    return losses, gradients


@contextmanager
def exact_float32() -> Iterator[None]:
    """Without it, convolutions on a GPU round float32 to a mantissa of 10 bits."""
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = allowed


def detection_difference(
    detections: list[dict[str, Tensor]], expected: list[dict[str, Tensor]]
) -> tuple[float, float]:
    """Of scores, and of boxes in pixels; infinite where the detections are not the same ones.

    Detections whose scores differ by less than rounding may swap places.
    """
    scores = boxes = 0.0
    for one, other in zip(detections, expected, strict=True):
        if len(one["scores"]) != len(other["scores"]):
            return float("inf"), float("inf")
        if not len(one["scores"]):
            continue
        gap = (one["boxes"][:, None] - other["boxes"]).abs().amax(dim=2)
        gap[one["labels"][:, None] != other["labels"]] = float("inf")
        nearest = gap.argmin(dim=1)
        if len(nearest.unique()) != len(nearest):
            return float("inf"), float("inf")
        boxes = max(boxes, gap.amin(dim=1).max().item())
        scores = max(scores, (one["scores"] - other["scores"][nearest]).abs().max().item())
    return scores, boxes
