"""Which objects have an anchor: as the anchors of a real forward pass say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models.detection import RetinaNet
from torchvision.ops import box_iou

from evaluation.diagnosis import anchor_fit as module
from evaluation.diagnosis.anchor_fit import AnchorFit, anchor_fit, shapes_only
from model.efficient_retinanet import get_efficient_retinanet

SIZES = [(150, 100), (45, 80), (96, 96), (300, 299)]


def build(name: str = "efficientnet-b0", size: int = 96, scale: float = 0.25) -> RetinaNet:
    return get_efficient_retinanet(
        3, name, backbone_weights="none", image_size=size, anchor_scale=scale
    ).eval()


@pytest.fixture(scope="module")
def detector() -> RetinaNet:
    return build()


def random_boxes() -> list[Tensor]:
    """Of every size and shape, 40 an image of ``SIZES``."""
    generator = torch.Generator().manual_seed(3)
    boxes = []
    for size in SIZES:
        whole = torch.tensor(size)
        corner = torch.rand(40, 2, generator=generator) * whole * 0.7
        extent = torch.exp(torch.randn(40, 2, generator=generator)) * whole * 0.25
        boxes.append(torch.cat([corner, corner + extent], dim=1))
    return boxes


def best_of_a_forward_pass(model: RetinaNet, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """(levels, N): the best IoU with the anchors that the model makes for a real image."""
    target = {"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.int64)}
    with torch.no_grad():
        batch, targets = model.transform([torch.rand(3, size[1], size[0])], [target])
        features = list(model.backbone(batch.tensors).values())
        anchors = model.anchor_generator(batch, features)[0]
    kinds = model.anchor_generator.num_anchors_per_location()
    lengths = [f.shape[-2] * f.shape[-1] * n for f, n in zip(features, kinds, strict=True)]
    return torch.stack(
        [box_iou(targets[0]["boxes"], level).amax(dim=1) for level in anchors.split(lengths)]
    )


@pytest.mark.parametrize("name", ["efficientnet-b0", "efficientnet-b2", "resnet50"])
def test_the_shares_are_those_of_the_anchors_that_a_forward_pass_makes(name: str) -> None:
    model, boxes = build(name), random_boxes()
    rows = zip(boxes, SIZES, strict=True)
    best = torch.cat([best_of_a_forward_pass(model, b, size) for b, size in rows], dim=1)
    fit = anchor_fit(model, boxes, SIZES)
    assert fit.boxes == 160
    assert 0.1 < fit.without_anchor < 0.9
    assert fit.without_anchor == pytest.approx(float((best.amax(dim=0) < 0.5).double().mean()))
    assert len(fit.levels) == len(best)
    for level, (measured, expected) in enumerate(zip(fit.levels, best, strict=True)):
        assert measured.without_anchor == pytest.approx(float((expected < 0.5).double().mean()))
        best_here = (expected >= 0.5) & (best.argmax(dim=0) == level)
        assert measured.best_here == pytest.approx(float(best_here.double().mean()))
    assert sum(level.best_here for level in fit.levels) == pytest.approx(1 - fit.without_anchor)


def test_strides_sides_and_flags_are_those_of_the_model() -> None:
    fit = anchor_fit(build(size=128), [], [])
    levels = fit.levels
    assert (fit.image_size, fit.anchor_scale) == (128, 0.25)
    assert [level.stride for level in levels] == [8, 16, 16, 32, 32, 32, 64, 128]
    assert [level.sides[0] for level in levels][:4] == pytest.approx([16, 32, 32, 64], rel=0.02)


def square(side: float) -> Tensor:
    return torch.tensor([[48 - side / 2, 48 - side / 2, 48 + side / 2, 48 + side / 2]])


def shares(fit: AnchorFit) -> tuple[float, float, float, float]:
    return fit.without_anchor, fit.too_small, fit.too_large, fit.odd_shape


def test_boxes_without_an_anchor_are_divided_by_what_is_wrong_with_them(
    detector: RetinaNet,
) -> None:
    model, size = detector, (96, 96)
    assert shares(anchor_fit(model, [square(6)], [size])) == (1, 1, 0, 0)
    assert shares(anchor_fit(build(scale=0.02), [square(90)], [size])) == (1, 0, 1, 0)
    flat = torch.tensor([[0.0, 45, 96, 51]])
    assert shares(anchor_fit(model, [flat], [size])) == (1, 0, 0, 1)
    fit = anchor_fit(model, [square(24)], [size])
    assert shares(fit) == (0, 0, 0, 0) and fit.trials == ()


def test_a_box_is_measured_in_the_pixels_that_the_model_sees(detector: RetinaNet) -> None:
    fit = anchor_fit(detector, [square(48)], [(960, 480)])
    assert fit.median_side == pytest.approx(4.8)
    assert fit.too_small == 1
    assert anchor_fit(detector, [square(240)], [(960, 480)]).too_small == 0


def test_trials_give_what_a_model_with_those_flags_gives() -> None:
    boxes = [b * 0.3 for b in random_boxes()]
    fit = anchor_fit(build(), boxes, SIZES)
    assert fit.without_anchor > 0.3
    tried = {(t.image_size, t.anchor_scale): t.without_anchor for t in fit.trials}
    for size, scale in ((96, 0.125), (192, 0.25), (96, 0.25)):
        expected = anchor_fit(build(size=size, scale=scale), boxes, SIZES).without_anchor
        assert tried[size, scale] == pytest.approx(expected)
    assert tried[192, 0.25] < fit.without_anchor


def test_the_default_scale_is_always_tried() -> None:
    fit = anchor_fit(build(size=512, scale=0.01), [square(64)], [(512, 512)])
    tried = {(t.image_size, t.anchor_scale): t.without_anchor for t in fit.trials}
    assert fit.too_large == 1 and tried[512, 1.0] == 0


def test_arrays_and_boxes_measured_a_few_at_a_time_give_the_same(
    detector: RetinaNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = random_boxes()
    whole = anchor_fit(detector, boxes, SIZES)
    monkeypatch.setattr(module, "CHUNK", 7)
    assert anchor_fit(detector, [b.numpy() for b in boxes], SIZES) == whole


@pytest.mark.parametrize("images", [0, 2])
def test_without_a_box_shares_are_absent_and_nothing_warns(
    detector: RetinaNet, images: int, recwarn: pytest.WarningsRecorder
) -> None:
    fit = anchor_fit(detector, [np.zeros((0, 4))] * images, [(60, 40)] * images)
    assert fit.boxes == 0 and fit.trials == ()
    assert all(map(math.isnan, (*shares(fit), fit.median_side)))
    flat = anchor_fit(detector, [torch.tensor([[9.0, 9, 9, 20]])], [(96, 96)])
    assert flat.too_small == 1
    assert not recwarn.list


def test_the_model_and_the_random_state_stay_as_they_are() -> None:
    model, generator = build().train(), torch.get_rng_state()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    # Torchvision's generator keeps the anchors in the dtype and on the device of its last images.
    anchors = [cells.double() for cells in model.anchor_generator.cell_anchors]
    model.anchor_generator.cell_anchors = [cells.clone() for cells in anchors]
    boxes = random_boxes()
    kept = [b.clone() for b in boxes]
    torch.set_rng_state(generator)
    anchor_fit(model, boxes, SIZES)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(m.training for m in model.modules())
    assert model.transform.max_size == 96
    after = model.anchor_generator.cell_anchors
    assert all(torch.equal(a, b) for a, b in zip(after, anchors, strict=True))
    assert all(cells.dtype == torch.float64 for cells in after)
    assert all(torch.equal(a, b) for a, b in zip(boxes, kept, strict=True))


def test_the_copy_that_gives_the_shapes_holds_no_numbers(detector: RetinaNet) -> None:
    copied = shapes_only(detector.backbone)
    values = [*copied.parameters(), *copied.buffers()]
    assert values and all(v.is_meta for v in values)
