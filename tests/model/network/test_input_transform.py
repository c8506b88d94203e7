"""The model's input: resized without aliasing, and boxes that find the way back."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from model.network.input_transform import LongerSideTransform
from tests.small_models import SIDE, pictures, target

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
NEUTRAL = [0.0] * 3, [1.0] * 3


@pytest.fixture
def transform() -> LongerSideTransform:
    return LongerSideTransform(SIDE, MEAN, STD).eval()


def test_images_of_the_right_size_come_out_as_torchvision_has_them(
    transform: LongerSideTransform,
) -> None:
    images = pictures((64, 64), (64, 48), (33, 64))
    targets = [target((4, 4, 40, 40)), target(), target((0, 0, 64, 33))]
    ours, our_targets = transform(images, targets)
    theirs, their_targets = GeneralizedRCNNTransform(SIDE, SIDE, MEAN, STD)(images, targets)
    torch.testing.assert_close(ours.tensors, theirs.tensors)
    assert ours.image_sizes == theirs.image_sizes
    for one, other in zip(our_targets, their_targets, strict=True):
        torch.testing.assert_close(one["boxes"], other["boxes"])
    assert transform.resize(images[1], targets[0]) == (images[1], targets[0]), "not touched"


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((100, 150), (43, 64)),
        ((150, 100), (64, 43)),
        ((20, 32), (40, 64)),
        ((900, 1), (64, 1)),
        ((64, 65), (63, 64)),
    ],
)
def test_the_longer_side_becomes_the_image_size_and_the_shape_stays(
    transform: LongerSideTransform, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    images, _ = transform(pictures(size))
    assert images.image_sizes == [expected]


def test_boxes_scale_with_the_image_and_return_to_its_pixels(
    transform: LongerSideTransform,
) -> None:
    sizes = [(100, 150), (37, 20), (64, 64)]
    boxes = [target((10, 20, 110, 90)), target((0, 0, 20, 37)), target()]
    images, scaled = transform(pictures(*sizes), boxes)
    height, width = images.image_sizes[0]
    expected = torch.tensor([[10 * width / 150, 20 * height / 100]])
    torch.testing.assert_close(scaled[0]["boxes"][:, :2], expected)
    assert boxes[0]["boxes"].tolist() == [[10, 20, 110, 90]], "the caller's stay as they are"
    back = transform.postprocess(scaled, images.image_sizes, sizes)
    for one, other in zip(back, boxes, strict=True):
        torch.testing.assert_close(one["boxes"], other["boxes"])


def test_a_fine_checkerboard_becomes_grey_and_no_coarser_checkerboard() -> None:
    # A third of the size: a bilinear resize without averaging hits exactly every third pixel.
    rows = torch.arange(3 * SIDE)
    board = ((rows[:, None] + rows) % 2).float().expand(3, -1, -1)
    images, _ = LongerSideTransform(SIDE, *NEUTRAL)([board])
    inner = images.tensors[0][:, 2:-2, 2:-2]
    assert (inner - 0.5).abs().max() < 0.12
    aliased, _ = GeneralizedRCNNTransform(SIDE, SIDE, *NEUTRAL)([board])
    assert (aliased.tensors[0][:, 2:-2, 2:-2] - 0.5).abs().min() > 0.4


def test_pictures_in_bytes_are_those_in_fractions(transform: LongerSideTransform) -> None:
    # The last two become equal in size, and only one of them by being resized.
    for sizes in (((64, 64), (64, 64)), ((64, 48), (90, 128)), ((64, 48), (128, 96))):
        bytes_ = [torch.randint(256, (3, *size), dtype=torch.uint8) for size in sizes]
        fractions = [image.float() / 255 for image in bytes_]
        ours, theirs = transform(bytes_)[0], transform(fractions)[0]
        assert ours.tensors.dtype == torch.float32
        torch.testing.assert_close(ours.tensors, theirs.tensors)
        assert ours.image_sizes == theirs.image_sizes
