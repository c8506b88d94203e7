"""The backbone: an EfficientNet as the feature pyramid needs it."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from itertools import accumulate, pairwise
from typing import Any

import torch
import torch.nn.functional as F
from efficientnet_pytorch import EfficientNet
from efficientnet_pytorch.model import MBConvBlock
from efficientnet_pytorch.utils import drop_connect, round_repeats
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from model.cpu.normed_swish import normed_swish

FIRST_TAPPED_STAGE = 3

# A norm and the activation after it. The map, (B, C, H, W), may be overwritten.
NormedActivation = Callable[[nn.Module, Tensor], Tensor]


def normed_relu6(norm: nn.Module, x: Tensor) -> Tensor:
    """The Lite family's, in place: no norm needs its output for its gradient."""
    return F.relu6(norm(x), inplace=True)


class EfficientNetBody(nn.Module):
    """The convolutional part of an EfficientNet, tapped after six of its stages.

    The private attributes of ``efficientnet_pytorch.EfficientNet`` are used only here.
    A *layer* is what lies between two taps; the first one includes the stem.

    network: see ``make_efficientnet``.
    trainable_layers: how many layers, counted from the deepest, are trained, 0 to 6; None for
    all. The others are frozen: no gradient, and evaluation mode through ``.train()``.
    activate: the norm and the activation after each convolution but the projections.
    """

    def __init__(
        self,
        network: EfficientNet,
        trainable_layers: int | None = None,
        activate: NormedActivation = normed_swish,
    ) -> None:
        super().__init__()
        self.network = network
        self.activate = activate
        taps = self._find_stage_ends()[FIRST_TAPPED_STAGE - 1 :]
        self._tap_after = {end - 1: str(number) for number, end in enumerate(taps)}
        layers = self._split_into_layers(taps)
        trained = len(layers) if trainable_layers is None else trainable_layers
        self._frozen = [m for layer in layers[: len(layers) - trained] for m in layer]
        for module in self._frozen:
            module.requires_grad_(False)
        self.train()

    def _find_stage_ends(self) -> list[int]:
        """The index after the last block of each MBConv stage."""
        stages, parameters = self.network._blocks_args, self.network._global_params
        return [*accumulate(round_repeats(s.num_repeat, parameters) for s in stages)]

    def _split_into_layers(self, taps: list[int]) -> list[list[nn.Module]]:
        net = self.network
        stem = [net._conv_stem, net._bn0, *net._blocks[: taps[0]]]
        middle = [list(net._blocks[start:end]) for start, end in pairwise(taps)]
        return [stem, *middle, [net._conv_head, net._bn1]]

    @property
    def out_channels(self) -> list[int]:
        """Channels of the six taps, shallow to deep."""
        taps = [self.network._blocks[i]._project_conv.out_channels for i in self._tap_after]
        return [*taps, self.network._conv_head.out_channels]

    def train(self, mode: bool = True) -> EfficientNetBody:
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def fold_batch_norms(self) -> None:
        """Make the batch norms part of the convolutions before them; for inference only.

        Factors and offsets after a convolution can be part of its weights and its bias.
        """
        net = self.network
        if isinstance(net._bn0, nn.Identity):
            return
        net._conv_stem, net._bn0 = _folded(net._conv_stem, net._bn0)
        net._conv_head, net._bn1 = _folded(net._conv_head, net._bn1)
        for block in net._blocks:
            if hasattr(block, "_expand_conv"):
                block._expand_conv, block._bn0 = _folded(block._expand_conv, block._bn0)
            block._depthwise_conv, block._bn1 = _folded(block._depthwise_conv, block._bn1)
            block._project_conv, block._bn2 = _folded(block._project_conv, block._bn2)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """images: float (B, 3, H, W), normalised. Returns six maps "0" to "5", shallow to deep."""
        # On a CPU depthwise convolutions train slower in bfloat16 than in float32.
        no_autocast = self.training and images.device.type == "cpu"
        with torch.autocast("cpu", enabled=False) if no_autocast else nullcontext():
            return self._forward(images)

    def _forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        net = self.network
        maps: OrderedDict[str, Tensor] = OrderedDict()
        # The kernels of a mobile network are fastest with the channels innermost.
        x = images.contiguous(memory_format=torch.channels_last)
        x = self.activate(net._bn0, net._conv_stem(x))
        drop_rate = net._global_params.drop_connect_rate or 0.0
        for index, block in enumerate(net._blocks):
            # Later blocks are skipped more often: stochastic depth, arXiv 1603.09382.
            x = _mbconv(block, x, self.activate, drop_rate * index / len(net._blocks))
            if index in self._tap_after:
                maps[self._tap_after[index]] = x
        maps[str(len(maps))] = self.activate(net._bn1, net._conv_head(x))
        return maps


def _mbconv(block: MBConvBlock, x: Tensor, activate: NormedActivation, drop_rate: float) -> Tensor:
    """A block of Tan and Le: expansion, depthwise convolution, squeeze-and-excitation, projection.

    Computes what the package's forward does, with norm and activation in one.
    """
    out = x
    if hasattr(block, "_expand_conv"):
        out = activate(block._bn0, block._expand_conv(out))
    out = activate(block._bn1, _depthwise(block._depthwise_conv, out))
    if block.has_se:
        means = block._se_reduce(F.adaptive_avg_pool2d(out, 1))
        out = block._se_expand(F.silu(means)).sigmoid() * out
    out = block._bn2(block._project_conv(out))
    is_strided = block._depthwise_conv.stride[0] > 1
    if not block.id_skip or is_strided or out.shape[1] != x.shape[1]:
        return out
    if drop_rate:
        out = drop_connect(out, p=drop_rate, training=block.training)
    return out + x


def _depthwise(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """The package's convolution with TensorFlow's padding "SAME".

    The package copies the map to pad it, which only a stride of 2 may need: an even side then gets
    a pixel less of padding before than after.
    """
    if convolution.stride[0] > 1:
        return convolution(x)
    padding, groups = convolution.kernel_size[0] // 2, convolution.groups
    return F.conv2d(x, convolution.weight, convolution.bias, padding=padding, groups=groups)


def _folded(convolution: nn.Conv2d, norm: Any) -> tuple[nn.Conv2d, nn.Module]:
    """norm: batch norm, frozen or not. Returns a convolution that does both, and an identity."""
    both = copy.copy(convolution)
    both._parameters = dict(convolution._parameters)  # the original keeps its weights
    statistics = norm.running_mean, norm.running_var, norm.eps
    both.weight, both.bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, *statistics, norm.weight, norm.bias
    )
    return both, nn.Identity()
