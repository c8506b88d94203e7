"""The EfficientNets, b0 to b7 and the Lite family, as the detector's backbone needs them.

EfficientNet-Lite, the variant for processors and int8, is described in
https://blog.tensorflow.org/2020/03/higher-accuracy-on-vision-models-with-efficientnet-lite.html.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from efficientnet_pytorch import EfficientNet
from efficientnet_pytorch.utils import efficientnet, round_filters, round_repeats


class Scale(NamedTuple):
    """What a member's channels and blocks are multiplied by."""

    width: float
    depth: float


LITE = {
    "efficientnet-lite0": Scale(1.0, 1.0),
    "efficientnet-lite1": Scale(1.0, 1.1),
    "efficientnet-lite2": Scale(1.1, 1.2),
    "efficientnet-lite3": Scale(1.2, 1.4),
    "efficientnet-lite4": Scale(1.4, 1.8),
}


class Normalization(NamedTuple):
    """Of an image in 0..1, red, green and blue: minus ``mean``, divided by ``std``."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
ABOUT_ONE = Normalization((127 / 255,) * 3, (128 / 255,) * 3)  # what Lite's weights are made for


def normalization_of(model_name: str) -> Normalization:
    """What a model's own ImageNet weights are made for."""
    return ABOUT_ONE if model_name in LITE else IMAGENET


def make_efficientnet(model_name: str) -> EfficientNet:
    """A random network without classifier, for images of any size.

    With the package's ``image_size`` it would be padded for that size, which shifts the maps of
    others.
    """
    if model_name not in LITE:
        return EfficientNet.from_name(model_name, image_size=None, include_top=False)
    scale = LITE[model_name]
    blocks, parameters = efficientnet(scale.width, scale.depth, include_top=False)
    scaled = [_scaled(stage, parameters) for stage in blocks]
    # Stem and head keep their channels, the first and the last stage their blocks.
    scaled[0] = scaled[0]._replace(input_filters=32, num_repeat=blocks[0].num_repeat)
    scaled[-1] = scaled[-1]._replace(num_repeat=blocks[-1].num_repeat)
    # The package scales by what the parameters say; here everything is scaled already.
    unscaled = parameters._replace(width_coefficient=None, depth_coefficient=None)
    return EfficientNet(scaled, unscaled)


def _scaled(stage: Any, parameters: Any) -> Any:
    return stage._replace(
        input_filters=round_filters(stage.input_filters, parameters),
        output_filters=round_filters(stage.output_filters, parameters),
        num_repeat=round_repeats(stage.num_repeat, parameters),
        se_ratio=None,
    )
