"""Image size, anchors and windows follow from the objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.dataset import Annotation, Dataset
from training.object_scale import IMAGE_SIZES, TYPICAL_OBJECT, choose_scale, choose_window

B0 = "efficientnet-b0"


def objects(*sides: float, size: tuple[int, int] | None = (500, 1000)) -> Dataset:
    """One image of ``size`` per object; a side is the object's longer one, in pixels."""
    rows = [np.array([[0, 0, side / 2, side]], dtype=np.float32) for side in sides]
    return Dataset(
        [Annotation(Path("x.png"), row, ("a",), np.zeros(1, dtype=bool), size) for row in rows],
        ("a",),
    )


def test_the_median_object_is_seen_at_the_size_that_is_learned_best() -> None:
    for share in (0.15, 0.2, 0.3):
        scale = choose_scale(objects(10, 1000 * share, 999), B0, None, None)
        assert abs(scale.typical - TYPICAL_OBJECT) <= 16 * share + 1e-3
        assert scale.typical == pytest.approx(share * scale.image_size)
        assert scale.image_size % 32 == 0 and scale.anchor_scale == 0.5


def test_images_are_neither_tiny_nor_huge_and_the_anchors_follow() -> None:
    smallest, largest = IMAGE_SIZES
    big, small = (choose_scale(objects(side), B0, None, None) for side in (900, 20))
    assert (big.image_size, small.image_size) == (smallest, largest)
    assert big.anchor_scale > 1 and small.anchor_scale == 0.125


def test_what_is_given_stays_and_the_other_fits_it() -> None:
    data = objects(320)
    assert choose_scale(data, B0, 512, None)[:2] == (512, 1.0)
    assert choose_scale(data, B0, None, 0.3)[:2] == (256, 0.3)
    assert choose_scale(data, B0, 100, 3.0)[:2] == (100, 3.0)


def test_the_baseline_s_anchors_of_that_stride_are_half_as_large() -> None:
    assert choose_scale(objects(320), "resnet50", None, None)[:2] == (256, 1.0)


@pytest.mark.parametrize("data", [objects(), objects(30, size=None)], ids=["none", "no sizes"])
def test_without_objects_or_sizes_there_is_a_scale_too(data: Dataset) -> None:
    image_size, anchor_scale, _ = choose_scale(data, B0, None, None)
    assert image_size == 320 and anchor_scale == 0.5


def test_windows_are_a_share_of_the_image_unless_they_are_chosen() -> None:
    assert choose_window(None, 256) == 160
    assert choose_window(None, 64) == choose_window(None, 76) == 64
    assert choose_window(0, 256) == 0 and choose_window(96, 256) == 96
