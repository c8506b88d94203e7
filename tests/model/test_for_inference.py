"""A detector made ready for inference gives the same detections with less work."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet, retinanet_resnet50_fpn_v2

from model.cpu.candidate_head import CandidateHead
from model.for_inference import for_inference
from model.network.forward import losses_and_detections
from model.network.frozen_batch_norm import freeze_batch_norms
from tests.small_models import assert_same_detections, build, pictures, target, with_varied_outputs
from utils.hardware import Machine

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["efficientnet-b0", "resnet50"])
def model(request: pytest.FixtureRequest) -> RetinaNet:
    torch.manual_seed(0)
    return with_varied_outputs(build(request.param))


def sparse(model: RetinaNet, share: float, images: list[Tensor]) -> RetinaNet:
    """A copy of which about this share of the scores exceed the threshold."""
    model = copy.deepcopy(model)
    outputs = model.head(list(model.backbone(model.transform(images)[0].tensors).values()))
    cut = outputs["cls_logits"].flatten().quantile(1 - share)
    model.head.classification_head.cls_logits.bias.data -= cut - torch.logit(torch.tensor(0.05))
    return model


@torch.no_grad()
@pytest.mark.parametrize("share", [0.001, 0.01])
def test_it_detects_what_the_model_detects_also_if_that_is_nothing(
    model: RetinaNet, share: float
) -> None:
    torch.manual_seed(1)
    images = pictures((64, 64), (64, 64), (40, 64), (90, 128))
    model = sparse(model, share, images)
    assert_same_detections(for_inference(model)(images), model(images), rtol=1e-3)
    model.head.classification_head.cls_logits.bias.data -= 100
    (result,) = for_inference(model)(pictures((64, 64)))
    assert len(result["boxes"]) == 0


@torch.no_grad()
def test_boxes_are_left_out_only_where_no_class_reaches_the_threshold(model: RetinaNet) -> None:
    torch.manual_seed(1)
    images = pictures((64, 64))
    model = sparse(model, 0.002, images)
    features = list(model.backbone(model.transform(images)[0].tensors).values())
    outputs, expected = for_inference(model).head(features), model.head(features)
    candidates = (expected["cls_logits"].sigmoid() > 0.05).any(dim=2)
    assert candidates.any()
    torch.testing.assert_close(
        [outputs["cls_logits"], outputs["bbox_regression"][candidates]],
        [expected["cls_logits"], expected["bbox_regression"][candidates]],
        rtol=1e-4,
        atol=1e-4,
    )
    assert (outputs["bbox_regression"] == 0).all(dim=2).any()


@torch.no_grad()
def test_with_losses_every_box_is_computed(model: RetinaNet) -> None:
    torch.manual_seed(1)
    images = pictures((64, 64))
    targets = [target((4, 4, 40, 40), (20, 8, 44, 60))]
    model = sparse(model, 1e-9, images)
    model.head.regression_head.bbox_reg.bias.data += 0.1
    fast, every = for_inference(model), for_inference(model, losses=True)
    expected = losses_and_detections(model, images, targets)[0]
    result = losses_and_detections(every, images, targets)[0]
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
    wrong = losses_and_detections(fast, images, targets)[0]["bbox_regression"]
    assert not torch.isclose(wrong, expected["bbox_regression"], rtol=1e-6)


def test_weights_are_shared_and_no_batch_norm_is_left_in_the_body_of_an_efficientnet(
    model: RetinaNet,
) -> None:
    fast = for_inference(model)
    ours, theirs = (m.backbone.fpn.inner_blocks[0][0].weight for m in (fast, model))
    assert ours.data_ptr() == theirs.data_ptr()
    assert isinstance(fast.head, CandidateHead)
    if hasattr(model.backbone.body, "fold_batch_norms"):
        assert not any(isinstance(m, nn.BatchNorm2d) for m in fast.modules())


@torch.no_grad()
def test_frozen_batch_norms_fold_too() -> None:
    torch.manual_seed(0)
    model = with_varied_outputs(build())
    freeze_batch_norms(model.backbone.body)
    images = pictures((64, 64))
    assert_same_detections(for_inference(model)(images), model(images), rtol=1e-3)


def test_the_model_stays_as_it_is_and_may_go_on_training(model: RetinaNet) -> None:
    model = copy.deepcopy(model).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for machine in (Machine(CPU, "fp32"), Machine(CPU, "bf16")):
        fast = for_inference(model, machine)
        assert not any(m.training for m in fast.modules())
        assert not any(p.requires_grad for p in fast.parameters())
    assert model.training
    assert all(p.requires_grad and p.dtype == torch.float32 for p in model.parameters())
    assert model.state_dict().keys() == before.keys()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    losses = model(pictures((64, 64)), [target((4, 4, 40, 40))])
    sum(losses.values()).backward()


@torch.no_grad()
def test_in_bfloat16_it_scores_as_the_model_does_under_autocast(model: RetinaNet) -> None:
    torch.manual_seed(1)
    images = pictures((64, 64))
    machine = Machine(CPU, "bf16")
    fast = for_inference(model, machine)
    assert fast.backbone.fpn.layer_blocks[0][0].weight.dtype == torch.bfloat16
    batch = model.transform(images)[0].tensors
    with machine.autocast():
        outputs = fast.head(list(fast.backbone(batch).values()))
        expected = model.head(list(model.backbone(batch).values()))["cls_logits"]
    exact = model.head(list(model.backbone(batch).values()))["cls_logits"]
    for output in outputs.values():
        assert output.dtype == torch.float32
        assert (output != output.bfloat16()).any(), "rounded to eight bits, scores would be equal"
    error = (expected - exact).abs().mean()
    assert (outputs["cls_logits"] - exact).abs().mean() < 1.5 * error


@torch.no_grad()
def test_a_head_with_norms_is_left_alone() -> None:
    torch.manual_seed(0)
    model = retinanet_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=3).eval()
    fast = for_inference(model)
    assert type(fast.head) is type(model.head)
    batch = torch.rand(1, 3, 64, 64)
    ours, theirs = (list(m.backbone(batch).values()) for m in (fast, model))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
