"""A detector made ready to detect, and for nothing else."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.retinanet import RetinaNetHead

from model.cpu.candidate_head import CandidateHead, has_plain_towers
from model.cpu.switch import cpu_kernels_apply
from model.network.heads import Float32Layer
from utils.hardware import Machine


def for_inference(
    model: RetinaNet, machine: Machine | None = None, *, losses: bool = False
) -> RetinaNet:
    """A copy in evaluation mode that gives the same detections, faster.

    EfficientNet's batch norm is folded into the convolutions before it. In float32 on a CPU boxes
    are computed only where there are candidates, with fewer multiplications (``CandidateHead``). In
    bfloat16 the weights are converted once and not at each call.

    model: ours or torchvision's RetinaNet; it stays as it is, and weights that need no change are
    shared with it. machine: by default the model's device, float32. losses: compute every box,
    which losses need and detections do not.
    """
    machine = machine or Machine(next(model.parameters()).device, "fp32")
    # New tensor objects on the same memory, so that requires_grad_ on the copy leaves the model's
    # alone.
    shared: dict[int, Tensor] = {id(b): b.detach() for b in model.buffers()}
    shared |= {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
    fast = copy.deepcopy(model, shared).to(machine.device)
    for module in fast.modules():
        if hasattr(module, "fold_batch_norms"):
            module.fold_batch_norms()
    if machine.precision == "bf16":
        _convert_weights(fast, machine.device)
    elif cpu_kernels_apply(next(fast.parameters())) and has_plain_towers(fast.head):
        fast.head = CandidateHead(fast.head, None if losses else fast.score_thresh)
    return fast.requires_grad_(False).eval()


def _convert_weights(fast: RetinaNet, device: torch.device) -> None:
    """To bfloat16, where autocast would do so."""
    fpn = getattr(fast.backbone, "fpn", None)
    if fpn and hasattr(fast.backbone, "body"):
        for part in (fast.backbone.body, fpn.inner_blocks, fpn.layer_blocks):
            for module in part.modules():
                if isinstance(module, nn.Conv2d):
                    module.to(torch.bfloat16)
    head = fast.head
    if device.type == "cpu" and isinstance(head, RetinaNetHead):
        scores, boxes = head.classification_head, head.regression_head
        scores.cls_logits = Float32Layer(scores.cls_logits)
        boxes.bbox_reg = Float32Layer(boxes.bbox_reg)
        scores.conv.to(torch.bfloat16)
        boxes.conv.to(torch.bfloat16)
    else:
        head.to(torch.bfloat16)
