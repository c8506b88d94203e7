"""The baseline: the original RetinaNet on a ResNet-50.

Lin et al., https://arxiv.org/abs/1708.02002; put together from torchvision's public parts exactly
as ``torchvision.models.detection.retinanet_resnet50_fpn`` does.
"""

from __future__ import annotations

from torch import nn
from torchvision.models import resnet50
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN

from model.network.anchors import Float32AnchorGenerator
from model.network.backbone_weights import BackboneWeights, load_into
from model.network.extra_levels import ExtraLevels
from model.network.frozen_batch_norm import freeze_batch_norms, frozen

RESNET_LAYERS = ("layer4", "layer3", "layer2", "layer1", "stem")
# Truncated to whole pixels, as torchvision does.
ANCHOR_SIZES = tuple(
    (x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in (32, 64, 128, 256, 512)
)


def make_resnet50_pyramid(
    weights: BackboneWeights, trainable_layers: int, freeze_batch_norm: bool
) -> nn.Module:
    """float (B, 3, H, W) to five maps of 256 channels; trainable_layers: 0 to 5, deepest first.

    The batch norm of a layer that does not train is frozen in any case.
    """
    network = resnet50(weights=None)
    network.fc = nn.Identity()
    load_into(network, weights, "resnet50")
    trained = RESNET_LAYERS[:trainable_layers]
    for name in RESNET_LAYERS if freeze_batch_norm else RESNET_LAYERS[trainable_layers:]:
        if name == "stem":
            network.bn1 = frozen(network.bn1)
        else:
            freeze_batch_norms(getattr(network, name))
    for name, parameter in network.named_parameters():
        layer = name.split(".")[0] if name.startswith("layer") else "stem"
        parameter.requires_grad_(layer in trained)
    return BackboneWithFPN(
        network,
        return_layers={"layer2": "0", "layer3": "1", "layer4": "2"},
        in_channels_list=[512, 1024, 2048],
        out_channels=256,
        extra_blocks=ExtraLevels(256, 256),
    )


def make_resnet50_anchors(anchor_scale: float = 1.0) -> AnchorGenerator:
    """Torchvision's anchors for this model, times ``anchor_scale``."""
    sizes = tuple(tuple(anchor_scale * size for size in row) for row in ANCHOR_SIZES)
    return Float32AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
