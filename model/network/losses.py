"""RetinaNet's two losses over a whole batch, without waiting for a GPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection._utils import encode_boxes
from torchvision.ops import sigmoid_focal_loss

from model.network.anchor_matching import IGNORED, Objects


def retinanet_losses(
    outputs: dict[str, Tensor], anchors: Tensor, objects: Objects, matches: Tensor
) -> dict[str, Tensor]:
    """``classification`` (focal loss) and ``bbox_regression`` (L1), as torchvision defines them.

    outputs: ``cls_logits`` (B, A, K) and ``bbox_regression`` (B, A, 4). anchors: (A, 4), xyxy.
    matches: int64 (B, A), see ``match``. Each loss is a sum over the anchors of an image,
    divided by the number of those matched to an object, and the mean over the images.
    Focal loss: Lin et al., https://arxiv.org/abs/1708.02002.
    """
    positive = matches >= 0
    rows = matches.clamp(min=0)
    num_positive = positive.sum(dim=1).clamp(min=1)

    logits = outputs["cls_logits"]
    labels = objects.labels.gather(1, rows).masked_fill(~positive, -1)
    classes = torch.arange(logits.shape[-1], device=logits.device)
    one_hot = (labels[..., None] == classes).to(logits.dtype)
    focal = sigmoid_focal_loss(logits, one_hot).masked_fill((matches == IGNORED)[..., None], 0)

    boxes = objects.boxes.gather(1, rows[..., None].expand(-1, -1, 4))
    offsets = encode_boxes(
        boxes.flatten(0, 1), anchors.repeat(len(boxes), 1), weights=anchors.new_ones(4)
    ).view(boxes.shape)
    distance = F.l1_loss(outputs["bbox_regression"], offsets, reduction="none")
    distance = distance.masked_fill(~positive[..., None], 0)
    return {
        "classification": (focal.sum(dim=(1, 2)) / num_positive).mean(),
        "bbox_regression": (distance.sum(dim=(1, 2)) / num_positive).mean(),
    }
