"""A detector made ready to detect, and for nothing else."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet

from model.cpu.candidate_head import CandidateHead, has_plain_towers
from model.cpu.switch import cpu_kernels_apply
from model.cpu.tower import ProductTower
from model.cpu.winograd import WinogradTower
from model.cpu.winograd_conv2d import WinogradConv2d, replaceable
from utils.hardware import Machine


def for_inference(
    model: RetinaNet, machine: Machine | None = None, *, losses: bool = False
) -> RetinaNet:
    """A copy in evaluation mode that gives the same detections, faster.

    EfficientNet's batch norm is folded into the convolutions before it. On a CPU boxes are computed
    only where there are candidates (``CandidateHead``), and in float32 the 3x3 convolutions of
    heads and pyramid take fewer multiplications (``WinogradTower``). In bfloat16 the weights are
    converted once and not at each call.

    model: ours or torchvision's RetinaNet; it stays as it is, and weights that need no change are
    shared with it. machine: by default the model's device, float32. losses: compute
    every box, which losses need and detections do not.
    """
    device = next(model.parameters()).device
    machine = machine or Machine(device, "fp32")
    # New names for the same memory: what happens to the copy's must not happen to the model's.
    shared: dict[int, Tensor] = {id(b): b.detach() for b in model.buffers()}
    shared |= {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
    fast = copy.deepcopy(model, shared).to(machine.device)
    for module in fast.modules():
        if hasattr(module, "fold_batch_norms"):
            module.fold_batch_norms()
    with torch.autocast("cpu", enabled=False):
        has_kernels = cpu_kernels_apply(next(fast.parameters()))
    in_float32 = machine.precision == "fp32"
    if not in_float32:
        _convert_weights(fast)
    if has_kernels:
        if has_plain_towers(fast.head):
            tower = WinogradTower if in_float32 else ProductTower
            fast.head = CandidateHead(fast.head, tower, None if losses else fast.score_thresh)
        if in_float32:
            _save_multiplications(fast)
    return fast.requires_grad_(False).eval()


def _save_multiplications(fast: RetinaNet) -> None:
    fpn = getattr(fast.backbone, "fpn", None)
    for parent in fpn.layer_blocks if fpn else ():
        if replaceable(parent[0]):
            parent[0] = WinogradConv2d(parent[0])


def _convert_weights(fast: RetinaNet) -> None:
    fpn = getattr(fast.backbone, "fpn", None)
    if fpn and hasattr(fast.backbone, "body"):
        for part in (fast.backbone.body, fpn.inner_blocks, fpn.layer_blocks):
            for module in part.modules():
                if isinstance(module, nn.Conv2d):
                    module.to(torch.bfloat16)
    fast.head.to(torch.bfloat16)
