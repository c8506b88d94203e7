"""Under autocast, what needs more than bfloat16 stays in float32."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.image_list import ImageList

from model.efficient_retinanet import LEVELS
from model.network.extra_levels import ExtraLevels
from tests.small_models import SIDE, build


def test_the_head_leaves_autocast_in_float32(b0: RetinaNet) -> None:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        outputs = b0.head(list(b0.backbone(torch.rand(1, 3, SIDE, SIDE)).values()))
    assert {output.dtype for output in outputs.values()} == {torch.float32}


@pytest.mark.parametrize("name", ["efficientnet-b0", "resnet50"])
def test_anchors_do_not_depend_on_the_precision_of_the_features(name: str) -> None:
    model = build(name, image_size=512, anchor_scale=1)
    images = ImageList(torch.zeros(1, 3, 512, 512), [(512, 512)])
    strides = [8, 16, 32, 64, 128] if name == "resnet50" else [level.stride for level in LEVELS]
    maps = [torch.zeros(1, 1, 512 // stride, 512 // stride) for stride in strides]
    exact = model.anchor_generator(images, maps)[0]
    rough = model.anchor_generator(images, [m.bfloat16() for m in maps])[0]
    assert rough.dtype == torch.float32
    assert torch.equal(exact, rough)


def test_the_coarsest_levels_have_the_same_gradients_in_every_precision() -> None:
    """Single-location maps: in bfloat16 a kernel of the CPU gave uninitialised gradients."""
    torch.manual_seed(0)
    levels = ExtraLevels(256, 256).to(memory_format=torch.channels_last)
    feature = torch.randn(8, 256, 2, 2).to(memory_format=torch.channels_last)

    def gradients(enabled: bool) -> list[torch.Tensor]:
        levels.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            finest, p6, p7 = levels([feature], [feature], ["0"])[0]
            (p6.float().square().sum() + p7.float().square().sum()).backward()
        assert finest is feature
        return [levels.p6.weight.grad.clone(), levels.p7.weight.grad.clone()]

    exact = gradients(enabled=False)
    for _ in range(20):
        torch.testing.assert_close(gradients(enabled=True), exact, rtol=1e-4, atol=1e-4)
