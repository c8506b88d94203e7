"""For a whole batch at once the results are those of torchvision, image by image."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import RetinaNet
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from model.network import post_processing
from model.network.anchor_matching import IGNORED, Objects, match
from model.network.anchors import Float32AnchorGenerator
from model.network.post_processing import PostProcessing
from tests.small_models import SIDE, build, pictures, target

LEVELS = (600, 150, 36, 9)
CLASSES = 5


def random_boxes(count: int, side: float = 64.0) -> Tensor:
    corner = torch.rand(count, 2) * side
    return torch.cat([corner, corner + 2 + torch.rand(count, 2) * side / 2], dim=1)


def random_targets() -> list[dict[str, Tensor]]:
    return [
        {"boxes": random_boxes(n), "labels": torch.randint(1, CLASSES, (n,))} for n in (3, 0, 1, 12)
    ]


@pytest.mark.parametrize("at_once", [1, 2**13, 2**26])
@pytest.mark.parametrize("seed", range(5))
def test_anchors_are_matched_as_torchvision_matches_them(
    seed: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.network.anchor_matching.OVERLAPS_AT_ONCE", at_once)
    torch.manual_seed(seed)
    targets, anchors = random_targets(), random_boxes(500)
    # Two objects of one box, and an anchor that fits an object exactly, twice.
    targets[3]["boxes"][4] = targets[3]["boxes"][5]
    anchors[7] = anchors[8] = targets[0]["boxes"][1]
    result = match(Objects.of(targets), anchors, 0.5, 0.4)
    matcher = Matcher(0.5, 0.4, allow_low_quality_matches=True)
    for matches, one in zip(result, targets, strict=True):
        if len(one["boxes"]):
            expected = matcher(box_iou(one["boxes"], anchors))
            assert (expected >= 0).any() and (expected == IGNORED).any() or len(one["boxes"]) < 3
        else:
            expected = torch.full((500,), -1)
        assert matches.tolist() == expected.tolist()


def test_an_object_that_no_anchor_fits_gets_the_nearest_and_none_leaves_background() -> None:
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 20, 20], [40, 40, 60, 60]])
    objects = Objects.of([target((0, 0, 4, 4)), target((2, 2, 9, 9), (41, 41, 60, 60))])
    assert match(objects, anchors, 0.5, 0.4).tolist() == [[0, -1, -1], [0, -1, 1]]
    assert (match(Objects.of([target(), target()]), anchors, 0.5, 0.4) == -1).all()


@pytest.mark.parametrize("seed", range(3))
def test_losses_and_their_gradients_are_torchvisions(b0: RetinaNet, seed: int) -> None:
    torch.manual_seed(seed)
    features = list(b0.backbone(torch.randn(4, 3, SIDE, SIDE)).values())
    batch = ImageList(torch.zeros(4, 3, SIDE, SIDE), [(64, 64)] * 4)
    anchors = b0.anchor_generator(batch, features)
    count = len(anchors[0])
    gradients = []
    for model in (type(b0), RetinaNet):
        torch.manual_seed(seed)
        outputs = {
            "cls_logits": torch.randn(4, count, 7, requires_grad=True),
            "bbox_regression": torch.randn(4, count, 4, requires_grad=True),
        }
        losses = model.compute_loss(b0, random_targets(), outputs, anchors)
        sum(losses.values()).backward()
        gradients.append([*losses.values(), *(o.grad for o in outputs.values())])
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)


def gradients_of_a_step(model: RetinaNet, every_box: bool) -> list[Tensor]:
    torch.manual_seed(4)
    dtype = next(model.parameters()).dtype
    images = [image.to(dtype) for image in pictures((64, 64), (64, 64))]
    truth = [target((4, 4, 40, 40)), target()]
    if every_box:
        batch, scaled = model.transform(images, truth)
        features = list(model.backbone(batch.tensors).values())
        anchors = model.anchor_generator(batch, features)
        losses = RetinaNet.compute_loss(model, scaled, model.head(features), anchors)
    else:
        losses = model(images, truth)
    result = torch.autograd.grad(sum(losses.values()), list(model.parameters()), allow_unused=True)
    return [gradient for gradient in result if gradient is not None]


def assert_close_to_the_largest(ours: list[Tensor], theirs: list[Tensor]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9 * float(other.abs().max()))


def test_a_step_computes_only_the_boxes_that_count_and_all_gradients_are_torchvisions(
    b0: RetinaNet,
) -> None:
    model = copy.deepcopy(b0).eval().double()
    model.training = True  # losses, while batch norm stays as it is
    ours, theirs = (gradients_of_a_step(model, every_box) for every_box in (False, True))
    assert len(ours) == len([*model.parameters()]) and any((g != 0).any() for g in ours)
    assert_close_to_the_largest(ours, theirs)
    features = [torch.randn(1, 256, 32, 32), torch.randn(1, 256, 4, 4)]
    needed = torch.zeros(1, 9 * (32 * 32 + 4 * 4), dtype=torch.bool)
    needed[0, 9 * 500] = True
    some, every = b0.head(features, needed), b0.head(features)
    torch.testing.assert_close(some["bbox_regression"][needed], every["bbox_regression"][needed])
    assert (some["bbox_regression"] == 0).float().mean() > 0.9
    torch.testing.assert_close(some["cls_logits"], every["cls_logits"])


@pytest.mark.slow
def test_compiled_and_eager_networks_have_the_same_losses_gradients_and_weights(
    b0: RetinaNet,
) -> None:
    eager = copy.deepcopy(b0).eval().double()
    compiled = copy.deepcopy(eager)
    compiled.compile_network(backend="eager")
    eager.training = compiled.training = True
    result, expected = (gradients_of_a_step(model, every_box=False) for model in (compiled, eager))
    assert_close_to_the_largest(result, expected)
    assert compiled.state_dict().keys() == eager.state_dict().keys()
    assert compiled.backbone._compiled_call_impl and compiled.head._compiled_call_impl
    assert copy.deepcopy(compiled).backbone._compiled_call_impl is None


def post_processing_of(score: float, nms: float = 0.5, most: int = 100) -> PostProcessing:
    return PostProcessing(score, nms, 100, most, BoxCoder((1.0, 1.0, 1.0, 1.0)))


def head_outputs(batch: int) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    logits = [torch.randn(batch, n, CLASSES) * 2 - 3 for n in LEVELS]
    offsets = [torch.randn(batch, n, 4) * 0.3 for n in LEVELS]
    return logits, offsets, [random_boxes(n) for n in LEVELS]


@pytest.mark.parametrize("in_one_call", [True, False])
@pytest.mark.parametrize("threshold", [0.02, 0.3, 0.999])
def test_detections_are_those_of_torchvision(
    b0: RetinaNet, threshold: float, in_one_call: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(post_processing, "CANDIDATES_PER_CALL", 10**9 if in_one_call else 0)
    torch.manual_seed(2)
    logits, offsets, anchors = head_outputs(3)
    sizes = [(64, 64), (50, 64), (64, 33)]
    settings = {"score_thresh": threshold, "topk_candidates": 100, "detections_per_img": 40}
    for name, value in settings.items():
        monkeypatch.setattr(b0, name, value)
    result = post_processing_of(threshold, most=40)(logits, offsets, anchors, sizes)
    outputs = {"cls_logits": logits, "bbox_regression": offsets}
    expected = RetinaNet.postprocess_detections(b0, outputs, [anchors] * 3, sizes)
    assert [len(e["scores"]) for e in expected] == ([0] * 3 if threshold > 0.9 else [40] * 3)
    for one, other in zip(result, expected, strict=True):
        assert one["labels"].tolist() == other["labels"].tolist()
        torch.testing.assert_close(one["scores"], other["scores"])
        torch.testing.assert_close(one["boxes"], other["boxes"])


def test_neighbours_in_the_batch_suppress_nothing() -> None:
    logits, offsets, anchors = head_outputs(1)
    process = post_processing_of(0.05)
    (alone,) = process(logits, offsets, anchors, [(64, 64)])
    doubled = ([x.repeat(2, 1, 1) for x in maps] for maps in (logits, offsets))
    for result in process(*doubled, anchors, [(64, 64)] * 2):
        assert torch.equal(result["boxes"], alone["boxes"])


def test_scores_that_round_to_one_are_still_ranked() -> None:
    anchors = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50]])
    logits = torch.tensor([[[0.0, 40.0], [0.0, 60.0], [0.0, 50.0]]])
    process = post_processing_of(0.6, most=2)
    (result,) = process([logits], [torch.zeros(1, 3, 4)], [anchors], [(64, 64)])
    assert result["scores"].tolist() == [1, 1]
    assert result["boxes"].tolist() == [anchors[1].tolist(), anchors[2].tolist()]


def test_far_apart_classes_and_images_keep_the_fractions_of_pixels() -> None:
    # In float32 the 1.3 million pixels to the last image would round boxes to eighths.
    anchors = torch.tensor([[0.0, 0, 1333, 1333], [10, 10, 10.9, 10.9], [10.4, 10, 11.3, 10.9]])
    logits = torch.full((12, 3, 90), -20.0)
    logits[:, :, 89] = torch.tensor([5.0, 4.0, 3.0])
    process = post_processing_of(0.05, nms=0.39)
    result = process([logits], [torch.zeros(12, 3, 4)], [anchors], [(1333, 1333)] * 12)
    # IoU 0.385: not a duplicate.
    assert [len(f["boxes"]) for f in result] == [3] * 12


def test_anchors_are_torchvisions_and_cached_for_some_shapes() -> None:
    sizes, ratios = ((16.0, 20.0), (32.0, 40.0)), ((0.5, 1.0),) * 2
    ours, theirs = Float32AnchorGenerator(sizes, ratios), AnchorGenerator(sizes, ratios)
    made = []
    for side in (64, 96, 64):
        batch = ImageList(torch.zeros(2, 3, side, side), [(side, side)] * 2)
        maps = [torch.zeros(2, 8, side // s, side // s) for s in (8, 16)]
        result = ours(batch, maps)
        for one, other in zip(result, theirs(batch, maps), strict=True):
            assert torch.equal(one, other)
        made.append(result[0])
    assert made[2] is made[0] is not made[1]
    for side in range(8, 8 * 40, 8):
        ours(ImageList(torch.zeros(1, 3, side, side), [(side, side)]), maps)
    assert len(ours.cache) <= Float32AnchorGenerator.CACHED_SHAPES


def test_anchors_made_for_inference_serve_training() -> None:
    model = build().eval()
    images, truth = pictures((64, 64)), [target((4, 4, 40, 40))]
    with torch.inference_mode():
        model(images)
    sum(model.train()(images, truth).values()).backward()


def test_training_without_targets_or_with_an_empty_box_is_an_error_that_names_it(
    b0: RetinaNet,
) -> None:
    model = copy.deepcopy(b0).train()
    with pytest.raises(ValueError, match="targets"):
        model(pictures((64, 64)))
    for box in ((40.0, 40, 10, 10), (4.0, 4, 4, 40)):
        with pytest.raises(ValueError, match=r"image 1.*box 2.*4"):
            model(pictures((64, 64), (64, 64)), [target(), target((1, 1, 9, 9), box)])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_training_step_never_waits_for_the_gpu() -> None:
    model = build().cuda().train()
    images = [torch.randint(256, (3, 64, 64), dtype=torch.uint8).cuda() for _ in range(3)]
    targets = [
        {name: value.cuda() for name, value in one.items()}
        for one in (target((4, 4, 40, 40)), target(), target((1, 2, 60, 30), (9, 9, 30, 30)))
    ]
    sum(model(images, targets).values()).backward()  # anchors and the like are made once
    torch.cuda.set_sync_debug_mode("error")
    try:
        sum(model(images, targets).values()).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
