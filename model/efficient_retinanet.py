"""RetinaNet on an EfficientNet: six backbone taps, eight pyramid levels, two shared heads.

RetinaNet: Lin et al., https://arxiv.org/abs/1708.02002. Feature pyramid: Lin et al.,
https://arxiv.org/abs/1612.03144. EfficientNet: Tan and Le, https://arxiv.org/abs/1905.11946.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork

from evaluation.metrics.operating_point import LOWEST_SCORE
from model.cpu.normed_swish import normed_swish
from model.network.anchors import Float32AnchorGenerator
from model.network.backbone_weights import BackboneWeights, find_backbone_weights, load_into
from model.network.efficientnet_body import EfficientNetBody, normed_relu6
from model.network.efficientnet_family import (
    LITE,
    Normalization,
    make_efficientnet,
)
from model.network.extra_levels import ExtraLevels
from model.network.frozen_batch_norm import freeze_batch_norms
from model.network.heads import Float32Head
from model.network.input_transform import LongerSideTransform
from model.network.resnet_retinanet import make_resnet50_anchors, make_resnet50_pyramid
from model.network.retinanet import BatchedRetinaNet
from utils.errors import UserError
from utils.options import MODELS, expected_one_of


class Level(NamedTuple):
    """A level of the pyramid: its source, its stride and its anchor base size in pixels."""

    source: str
    stride: int
    anchor_size: int


LEVELS = (
    Level("MBConv stage 3", 8, 64),
    Level("MBConv stage 4", 16, 128),
    Level("MBConv stage 5", 16, 128),
    Level("MBConv stage 6", 32, 256),
    Level("MBConv stage 7", 32, 256),
    Level("head convolution", 32, 256),
    Level("P6", 64, 512),
    Level("P7", 128, 512),
)
NUM_TAPS = sum(not level.source.startswith("P") for level in LEVELS)
PYRAMID_CHANNELS = 256
ANCHOR_SCALES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
ASPECT_RATIOS = (0.5, 1.0, 2.0)
BATCH_NORM_MOMENTUM = 0.1


class EfficientNetPyramid(nn.Module):
    """Body and feature pyramid: float (B, 3, H, W) to eight maps of 256 channels."""

    out_channels = PYRAMID_CHANNELS

    def __init__(self, body: EfficientNetBody) -> None:
        super().__init__()
        self.body = body
        # With equal channel counts P6 is computed from the last pyramid output, not from the tap.
        extra = ExtraLevels(PYRAMID_CHANNELS, PYRAMID_CHANNELS)
        self.fpn = FeaturePyramidNetwork(body.out_channels, PYRAMID_CHANNELS, extra_blocks=extra)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        return self.fpn(self.body(images))


def make_anchor_generator(anchor_scale: float = 1.0) -> AnchorGenerator:
    """Nine anchors per location: three scales times three ratios on each level's base size.

    anchor_scale multiplies every base size, for objects or inputs smaller than usual.
    """
    sizes = tuple(
        tuple(anchor_scale * level.anchor_size * scale for scale in ANCHOR_SCALES)
        for level in LEVELS
    )
    return Float32AnchorGenerator(sizes, (ASPECT_RATIOS,) * len(LEVELS))


def get_efficient_retinanet(
    num_classes: int,
    efficientnet_model_name: str = "efficientnet-b0",
    trainable_backbone_layers: int | None = None,
    score_thresh: float = LOWEST_SCORE,
    *,
    backbone_weights: str | BackboneWeights = "auto",
    image_size: int = 512,
    anchor_scale: float = 1.0,
    freeze_batch_norm: bool = False,
    normalization: Normalization | None = None,
) -> BatchedRetinaNet:
    """A RetinaNet whose pyramid taps six stages of an EfficientNet into eight levels.

    num_classes: background counted, as in torchvision.
    efficientnet_model_name: ``efficientnet-b0`` to ``-b7``, ``efficientnet-lite0`` to ``-lite4``,
    or ``resnet50`` for the baseline (five levels).
    trainable_backbone_layers: 0 (all frozen) to 6 (5 for the baseline), counted from the deepest;
    by default all. Without pretrained weights everything trains.
    score_thresh: lower-scoring detections are dropped; keep it low when measuring mAP.
    backbone_weights: ``auto``, ``imagenet``, ``none`` or a path, see ``find_backbone_weights``, or
    what that function returned.
    image_size: the longer side, in pixels, to which the model scales its input.
    anchor_scale: multiplies the base sizes of ``LEVELS``.
    freeze_batch_norm: keep statistics and affine parameters of the backbone's batch norm as they
    are, which only pretrained weights bear.
    normalization: of the images; by default what the weights are made for.

    The model takes a list of float images (3, H, W) in 0..1 and, in training, a list of targets
    (``boxes`` float (N, 4) xyxy pixels, ``labels`` int64 (N,)). It returns losses
    (``classification``, ``bbox_regression``) in training and detections (``boxes`` (M, 4) xyxy in
    pixels of the original image, ``scores``, ``labels``) in evaluation.
    Raises UserError for an unknown name or weights that are not available.
    """
    if efficientnet_model_name not in MODELS:
        expected = expected_one_of(MODELS, efficientnet_model_name)
        raise UserError(f"--model {efficientnet_model_name}: {expected}.")
    weights = backbone_weights
    if isinstance(weights, str):
        weights = find_backbone_weights(efficientnet_model_name, weights)
    is_resnet = efficientnet_model_name == "resnet50"
    layers = 5 if is_resnet else NUM_TAPS
    trainable = _check_trainable_layers(trainable_backbone_layers, layers, weights)
    if is_resnet:
        backbone = make_resnet50_pyramid(weights, trainable, freeze_batch_norm)
        anchors = make_resnet50_anchors(anchor_scale)
    else:
        network = make_efficientnet(efficientnet_model_name)
        load_into(network, weights, efficientnet_model_name)
        if freeze_batch_norm:
            freeze_batch_norms(network)
        else:
            _shorten_batch_norm_memory(network)
        activate = normed_relu6 if efficientnet_model_name in LITE else normed_swish
        backbone = EfficientNetPyramid(EfficientNetBody(network, trainable, activate))
        anchors = make_anchor_generator(anchor_scale)
    model = BatchedRetinaNet(
        backbone,
        num_classes,
        anchor_generator=anchors,
        head=Float32Head(PYRAMID_CHANNELS, anchors.num_anchors_per_location()[0], num_classes),
        score_thresh=score_thresh,
        detections_per_img=100,
    )
    mean, std = normalization or weights.normalization_for(efficientnet_model_name)
    model.transform = LongerSideTransform(image_size, list(mean), list(std))
    return model.to(memory_format=torch.channels_last)


def _shorten_batch_norm_memory(network: nn.Module) -> None:
    """Let running statistics follow the batches within tens of steps.

    The package's momentum of 0.01 is meant for hundreds of epochs of ImageNet. After a few hundred
    steps its statistics are still those of the random start, and evaluation fails.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = BATCH_NORM_MOMENTUM


def _check_trainable_layers(requested: int | None, layers: int, weights: BackboneWeights) -> int:
    if requested is None:
        return layers
    if not 0 <= requested <= layers:
        raise UserError(
            f"--trainable-layers {requested}: expected 0 (frozen backbone) to {layers} (all of it)."
        )
    if requested < layers and not weights.pretrained:
        warnings.warn(
            f"trainable_backbone_layers={requested} has no effect without pretrained weights: a "
            "frozen random backbone learns nothing, so all of it trains.",
            stacklevel=3,
        )
        return layers
    return requested


def describe_parameters(model: nn.Module) -> str:
    """Number of parameters, of trainable ones, and the size of the weights in memory."""
    total = sum(p.numel() for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    megabytes = sum(t.numel() * t.element_size() for t in model.state_dict().values()) / 1e6
    return f"{total / 1e6:.2f} M parameters, {trainable / 1e6:.2f} M trainable, {megabytes:.1f} MB"
