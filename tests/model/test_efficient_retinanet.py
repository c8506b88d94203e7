"""The detector: its levels, its taps, its equality with torchvision, and what a frozen part is."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import pytest
import torch
from efficientnet_pytorch import EfficientNet
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet, retinanet_resnet50_fpn
from torchvision.models.detection.image_list import ImageList

from model.efficient_retinanet import (
    ANCHOR_SCALES,
    ASPECT_RATIOS,
    LEVELS,
    describe_parameters,
    get_efficient_retinanet,
    make_anchor_generator,
)
from model.network import backbone_weights
from tests.small_models import (
    SIDE,
    assert_same_detections,
    build,
    pictures,
    target,
    with_varied_outputs,
)
from utils.errors import UserError
from utils.options import MODELS

STRIDES = [8, 16, 16, 32, 32, 32, 64, 128]
# The last block of each tapped stage.
LAST_BLOCKS = {"efficientnet-b0": (4, 7, 10, 14, 15), "efficientnet-b4": (9, 15, 21, 29, 31)}


@pytest.fixture(scope="module")
def b4() -> RetinaNet:
    torch.manual_seed(1)
    return with_varied_outputs(build("efficientnet-b4"))


def parameter_count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


# --- size and levels ---


def test_with_seven_classes_b0_has_14_15_million_parameters_and_b4_28_million(
    b0: RetinaNet, b4: RetinaNet
) -> None:
    assert parameter_count(b4) == pytest.approx(28e6, rel=0.01)
    norms = [m for m in b0.modules() if isinstance(m, nn.BatchNorm2d)]
    assert sum(map(parameter_count, norms)) == 42_016, "not counted where they are frozen"
    assert parameter_count(b0) == 14_154_687 + 42_016
    assert describe_parameters(b0) == "14.20 M parameters, 14.20 M trainable, 57.0 MB"


def test_the_strides_of_the_levels_are_those_of_real_feature_maps(
    b0: RetinaNet, b4: RetinaNet
) -> None:
    assert [level.stride for level in LEVELS] == STRIDES
    for model in (b0, b4):
        with torch.no_grad():
            maps = list(model.backbone(torch.rand(1, 3, 128, 256)).values())
        assert [m.shape for m in maps] == [(1, 256, 128 // s, 256 // s) for s in STRIDES]


def test_p6_comes_from_the_last_pyramid_output_and_p7_from_its_relu(b0: RetinaNet) -> None:
    with torch.no_grad():
        maps = b0.backbone(torch.rand(1, 3, 128, 128))
        extra = b0.backbone.fpn.extra_blocks
        torch.testing.assert_close(maps["p6"], extra.p6(maps["5"]))
        torch.testing.assert_close(maps["p7"], extra.p7(maps["p6"].relu()))


@pytest.mark.parametrize("anchor_scale", [1.0, 0.25])
def test_every_location_of_a_level_has_nine_anchors_of_the_sizes_in_the_table(
    anchor_scale: float,
) -> None:
    generator = make_anchor_generator(anchor_scale)
    assert generator.num_anchors_per_location() == [9] * len(LEVELS)
    maps = [torch.zeros(1, 256, 256 // level.stride, 256 // level.stride) for level in LEVELS]
    images = ImageList(torch.zeros(1, 3, 256, 256), [(256, 256)])
    counts = [9 * m.shape[-2] * m.shape[-1] for m in maps]
    for level, anchors in zip(LEVELS, generator(images, maps)[0].split(counts), strict=True):
        nine = anchors[:9]
        expected = torch.tensor(
            [
                (side / ratio**0.5, side * ratio**0.5)
                for ratio in ASPECT_RATIOS
                for side in (anchor_scale * level.anchor_size * s for s in ANCHOR_SCALES)
            ]
        )
        torch.testing.assert_close(nine[:, 2:] - nine[:, :2], expected, rtol=0, atol=1.0)
        steps = (anchors[9:18] - nine)[:, 0]
        assert steps.tolist() == [level.stride] * 9


# --- taps ---


def test_six_taps_of_b0_have_40_80_112_192_320_and_1280_channels(b0: RetinaNet) -> None:
    with torch.no_grad():
        maps = b0.backbone.body(torch.rand(1, 3, SIDE, SIDE))
    channels = [40, 80, 112, 192, 320, 1280]
    assert list(maps) == ["0", "1", "2", "3", "4", "5"]
    assert [m.shape[1] for m in maps.values()] == channels
    assert b0.backbone.body.out_channels == channels


@pytest.mark.parametrize("size", [(64, 64), (97, 65), (33, 71), (65, 128)])
@pytest.mark.parametrize("name", LAST_BLOCKS)
def test_taps_equal_the_stages_of_the_untouched_package(
    name: str, size: tuple[int, int], request: pytest.FixtureRequest
) -> None:
    body = copy.deepcopy(request.getfixturevalue(name.removeprefix("efficientnet-")).backbone.body)
    body.double()  # in float32, the layout of the memory already makes a difference of 1e-5
    untouched = EfficientNet.from_name(name, image_size=None).double()
    untouched.load_state_dict(body.network.state_dict(), strict=False)
    untouched.eval()
    outputs: dict[int, Tensor] = {}
    for index in LAST_BLOCKS[name]:
        untouched._blocks[index].register_forward_hook(
            lambda module, inputs, output, index=index: outputs.update({index: output})
        )
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        head = untouched.extract_features(images)
        maps = list(body(images).values())
    expected = [*(outputs[index] for index in LAST_BLOCKS[name]), head]
    for ours, theirs in zip(maps, expected, strict=True):
        assert theirs.std() > 0.05
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-7)


# --- torchvision is the oracle ---


def test_losses_and_detections_equal_torchvisions_retinanet_of_the_same_modules(
    b0: RetinaNet,
) -> None:
    ours = copy.deepcopy(b0)
    oracle = RetinaNet(
        ours.backbone,
        7,
        min_size=SIDE,
        max_size=SIDE,
        anchor_generator=ours.anchor_generator,
        head=ours.head,
        score_thresh=ours.score_thresh,
        detections_per_img=100,
    )
    images = pictures((64, 64), (64, 48), (40, 64))
    targets = [target((4, 4, 40, 40), (20, 8, 44, 60)), target(), target((1, 2, 60, 30), label=6)]

    # Drop-connect: torchvision's transform draws a number of its own before the backbone does.
    ours.backbone.register_forward_pre_hook(lambda *_: torch.manual_seed(3) and None)
    losses, expected = (model(images, targets) for model in (ours.train(), oracle.train()))
    assert losses.keys() == {"classification", "bbox_regression"}
    assert all(value > 0 for value in expected.values())
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        assert_same_detections(ours.eval()(images), oracle.eval()(images))


def test_a_resnet50_is_torchvisions_retinanet_to_the_key() -> None:
    ours = with_varied_outputs(build("resnet50", score_thresh=0.01, anchor_scale=1))
    theirs = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=7)
    assert ours.anchor_generator.sizes == theirs.anchor_generator.sizes
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    theirs.transform = ours.transform
    theirs.to(memory_format=torch.channels_last)
    theirs.score_thresh, theirs.detections_per_img = 0.01, 100
    images = pictures((64, 64), (48, 64))
    with torch.no_grad():
        assert_same_detections(ours(images), theirs.eval()(images))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_builds_trains_a_step_and_detects(name: str) -> None:
    model = build(name, score_thresh=0.0).train()
    losses = model(pictures((64, 64), (48, 64)), [target((4, 4, 40, 40)), target()])
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    stem = next(model.backbone.parameters())
    assert stem.grad.abs().sum() > 0
    with torch.no_grad():
        stem -= 1e-3 * stem.grad
        (result,) = model.eval()(pictures((50, 100)))
    assert len(result["scores"]) > 0
    assert set(result["labels"].tolist()) <= set(range(7))
    assert result["boxes"].min() >= 0
    assert (result["boxes"].amax(dim=0) <= torch.tensor([100, 50, 100, 50])).all()


# --- the call ---


def test_the_original_call_works_and_warns_once_of_random_and_once_of_unfrozen_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(backbone_weights, "is_reachable", lambda url: False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = get_efficient_retinanet(
            num_classes=7,
            efficientnet_model_name="efficientnet-b4",
            trainable_backbone_layers=0,
            score_thresh=0.5,
        )
    texts = [str(w.message) for w in caught]
    assert len(texts) == 2
    assert "random weights" in texts[0] and "efficientnet-b4" in texts[0]
    assert "trainable_backbone_layers=0 has no effect" in texts[1]
    assert [Path(w.filename).name for w in caught[1:]] == [Path(__file__).name]
    assert all(p.requires_grad for p in model.parameters())
    assert model.score_thresh == 0.5
    assert model.transform.max_size == 512


def test_an_unknown_model_is_an_error_that_knows_the_nearest_name() -> None:
    with pytest.raises(UserError, match="efficientnet-b9.*resnet50.*did you mean"):
        get_efficient_retinanet(7, "efficientnet-b9", backbone_weights="none")


@pytest.mark.parametrize(("name", "layers"), [("efficientnet-b0", 7), ("resnet50", 6)])
def test_more_trainable_layers_than_the_backbone_has_are_an_error(name: str, layers: int) -> None:
    with pytest.raises(UserError, match=f"--trainable-layers {layers}: expected 0 .* {layers - 1}"):
        get_efficient_retinanet(7, name, layers, backbone_weights="none")
