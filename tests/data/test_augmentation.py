"""The training transform: boxes stay in the picture, tight, and with what belongs to them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision import tv_tensors

from data.augmentation import (
    FILL,
    MIN_VISIBLE,
    FittingScale,
    RandomCanvas,
    RandomQuarterTurns,
    TrainingTransform,
    training_canvas,
)
from data.dataset import Target

SIZE = 64
seeds = st.integers(0, 2**32)
# (height, width); only a square can be rotated.
canvases = st.sampled_from([(SIZE, SIZE), (64, 96), (96, 32)])
several = settings(max_examples=60, deadline=None)


def target_of(boxes: Any, height: int, width: int) -> Target:
    """Every object has a label and a flag that tell it from the others."""
    rows = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    labels = torch.arange(1, len(rows) + 1)
    return Target(
        boxes=tv_tensors.BoundingBoxes(rows, format="XYXY", canvas_size=(height, width)),
        labels=labels,
        difficult=labels % 3 == 0,
        image_id=17,
    )


def filled(boxes: Any, height: int, width: int) -> Tensor:
    """Black, with white boxes."""
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    for left, top, right, bottom in boxes:
        image[:, top:bottom, left:right] = 255
    return image


def bright_envelope(image: Tensor) -> Tensor:
    bright = (image > 127).all(dim=0)
    rows, columns = bright.any(dim=1).nonzero(), bright.any(dim=0).nonzero()
    return torch.cat([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


lengths, tenths = st.integers(40, 160), st.integers(0, 10)


@several
@given(lengths, lengths, tenths, tenths, canvases, seeds, st.booleans())
def test_boxes_stay_tight_around_their_objects(
    height: int, width: int, x: int, y: int, canvas: tuple[int, int], seed: int, turned: bool
) -> None:
    turned = turned and canvas[0] == canvas[1]
    box = [width * x // 15, height * y // 15, width * (x + 4) // 15, height * (y + 5) // 15]
    transform = TrainingTransform(canvas, quarter_turns=turned).geometry
    torch.manual_seed(seed)
    image, target = transform(
        tv_tensors.Image(filled([box], height, width)), target_of([box], height, width)
    )
    if len(target["boxes"]):
        seen, stated = bright_envelope(image), target["boxes"][0].as_subclass(Tensor)
        assert (seen - stated).abs().max() <= 2, (seen, stated)


boxes_inside = st.lists(
    st.tuples(st.integers(0, 150), st.integers(0, 90), st.integers(8, 50), st.integers(8, 50)),
    min_size=1,
    max_size=4,
)


@several
@given(boxes_inside, seeds)
def test_a_window_at_an_object_shows_all_of_it_that_has_room(boxes: Any, seed: int) -> None:
    corners = [[x, y, min(x + w, 200), min(y + h, 140)] for x, y, w, h in boxes]
    torch.manual_seed(seed)
    window = RandomCanvas((SIZE, SIZE), at_objects=1.0)
    _, target = window(tv_tensors.Image(filled([], 140, 200)), target_of(corners, 140, 200))
    sizes = [(x2 - x1, y2 - y1) for x1, y1, x2, y2 in corners]
    kept = [sizes[label - 1] for label in target["labels"].tolist()]
    shown = (target["boxes"][:, 2:] - target["boxes"][:, :2]).tolist()
    assert any(tuple(size) == whole for size, whole in zip(shown, kept, strict=True))


@several
@given(st.integers(30, 200), st.integers(30, 140), seeds)
def test_an_object_larger_than_its_window_stays_its_object(w: int, h: int, seed: int) -> None:
    torch.manual_seed(seed)
    window = RandomCanvas((SIZE, SIZE), at_objects=1.0)
    _, target = window(tv_tensors.Image(filled([], 140, 200)), target_of([[0, 0, w, h]], 140, 200))
    [[x1, y1, x2, y2]] = target["boxes"].tolist()
    assert (x2 - x1, y2 - y1) == (min(w, SIZE), min(h, SIZE))


def test_windows_lie_inside_the_image() -> None:
    """A window shows filling only where the image is smaller."""
    image = torch.full((3, 140, 200), 255, dtype=torch.uint8)
    target = target_of([[0, 0, 30, 30], [190, 130, 200, 140], [20, 10, 180, 130]], 140, 200)
    for share in (0.0, 1.0):
        window = RandomCanvas((SIZE, SIZE), at_objects=share)
        for seed in range(200):
            torch.manual_seed(seed)
            seen, _ = window(tv_tensors.Image(image), target)
            assert seen.min() == 255
        small, _ = RandomCanvas((SIZE, SIZE), at_objects=share)(
            tv_tensors.Image(image[:, :40, :30]), target_of([[5, 5, 20, 20]], 40, 30)
        )
        assert int((small == 255).sum()) == 3 * 40 * 30


def test_a_training_window_has_its_own_size_at_the_scale_of_the_canvas() -> None:
    image, target = filled([(90, 50, 110, 70)], 128, 192), target_of([[90, 50, 110, 70]], 128, 192)
    transform = TrainingTransform((256, 384), scale_jitter=1.0, window=96)
    sides = set()
    for seed in range(30):
        torch.manual_seed(seed)
        seen, moved = transform(image, target)
        assert seen.shape == (3, 96, 96)
        for x1, y1, x2, y2 in moved["boxes"].tolist():
            sides.add((round(x2 - x1), round(y2 - y1)))
    assert (40, 40) in sides


def test_an_image_without_objects_passes() -> None:
    image, target = TrainingTransform((SIZE, SIZE))(filled([], 50, 90), target_of([], 50, 90))
    assert tuple(image.shape) == (3, SIZE, SIZE) and tuple(target["boxes"].shape) == (0, 4)
    assert target["labels"].shape == target["difficult"].shape == (0,)
    assert target["labels"].dtype == torch.int64 and target["difficult"].dtype == torch.bool


@pytest.mark.parametrize("canvas", [(SIZE, SIZE), (32, 96), (96, 32)])
def test_a_box_mostly_cropped_away_is_removed_and_another_is_clipped(
    canvas: tuple[int, int],
) -> None:
    box, kept = [0, 0, 60, 60], set()
    for seed in range(60):
        torch.manual_seed(seed)
        image, target = RandomCanvas(canvas)(filled([box], 100, 100), target_of([box], 100, 100))
        visible = int((image > 250).all(dim=0).sum()) / (60 * 60)
        assert (visible >= MIN_VISIBLE) == (len(target["boxes"]) == 1)
        if len(target["boxes"]):
            assert torch.equal(bright_envelope(image), target["boxes"][0].int())
        kept.add(len(target["boxes"]))
    assert kept == {0, 1}


def test_a_picture_smaller_than_the_canvas_lies_whole_and_anywhere_on_it() -> None:
    corners = set()
    for seed in range(40):
        torch.manual_seed(seed)
        whole = [[0, 0, 30, 20]]
        image, target = RandomCanvas((SIZE, SIZE))(filled(whole, 20, 30), target_of(whole, 20, 30))
        left, top, right, bottom = target["boxes"][0].int().tolist()
        assert (right - left, bottom - top) == (30, 20)
        assert (image[:, top:bottom, left:right] == 255).all()
        assert (image == 255).all(dim=0).sum() == 600
        corners.add((left, top))
    assert len(corners) > 20


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 400), (400, 2), (1, 3000)])
def test_very_small_and_very_thin_pictures_pass(height: int, width: int) -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        image, _ = TrainingTransform((SIZE, SIZE))(
            filled([], height, width), target_of([[0, 0, width, height]], height, width)
        )
        assert tuple(image.shape) == (3, SIZE, SIZE)


def heading(image: Tensor) -> str:
    """Where the red half lies, as seen from the blue one."""
    red, blue = (
        (image[c] > 200).logical_and(image[1] < 50).nonzero().float().mean(dim=0) for c in (0, 2)
    )
    down, right = (red - blue).tolist()
    if abs(down) > abs(right):
        return "below" if down > 0 else "above"
    return "right" if right > 0 else "left"


@pytest.mark.parametrize(
    ("quarter_turns", "headings"),
    [(False, {"left", "right"}), (True, {"left", "right", "above", "below"})],
)
def test_images_are_mirrored_always_and_rotated_only_on_request(
    quarter_turns: bool, headings: set[str]
) -> None:
    box = [30, 30, 70, 70]
    flag = filled([], 100, 100)
    flag[0, 30:70, 30:50] = 255
    flag[2, 30:70, 50:70] = 255
    geometry = TrainingTransform((SIZE, SIZE), quarter_turns=quarter_turns).geometry
    seen = Counter[str]()
    for seed in range(40):
        torch.manual_seed(seed)
        seen[heading(geometry(tv_tensors.Image(flag), target_of([box], 100, 100))[0])] += 1
    assert set(seen) == headings and min(seen.values()) > 3


def test_quarter_turns_move_pixels_and_box_alike() -> None:
    drawn = [[4, 10, 30, 22]]
    picture = tv_tensors.Image(filled(drawn, SIZE, SIZE)), target_of(drawn, SIZE, SIZE)
    envelopes = set()
    for seed in range(20):
        torch.manual_seed(seed)
        image, target = RandomQuarterTurns()(*picture)
        box, envelope = target["boxes"][0].as_subclass(Tensor), bright_envelope(image)
        assert (box - envelope).abs().max() <= 1e-3
        envelopes.add(tuple(envelope.tolist()))
    assert envelopes == {(4, 10, 30, 22), (10, 34, 22, 60), (34, 42, 60, 54), (42, 4, 54, 30)}


def test_light_and_colour_vary() -> None:
    """A picture of the filling's own colour, so that its place and size do not show."""
    plain = torch.tensor(FILL, dtype=torch.uint8)[:, None, None].repeat(1, 80, 80)
    seen = set()
    for seed in range(20):
        torch.manual_seed(seed)
        image, _ = TrainingTransform((SIZE, SIZE))(plain, target_of([], 80, 80))
        seen.add(tuple(image[:, 30, 30].tolist()))
    assert len(seen) > 10 and FILL in seen


@pytest.mark.parametrize("jitter", [1.0, 1.5, 3.0])
def test_the_picture_that_fits_the_canvas_is_scaled_by_up_to_the_factor_either_way(
    jitter: float,
) -> None:
    factors = []
    for seed in range(60):
        torch.manual_seed(seed)
        scale = FittingScale((64, 96), jitter).make_params([torch.zeros(3, 100, 300)])
        height, width = scale["size"]
        assert abs(width / height - 3) < 0.3
        factors.append(width / 96)
    assert min(factors) >= 1 / jitter - 0.01 and max(factors) <= jitter + 0.01
    smaller = sum(factor < 1 for factor in factors)
    assert (min(factors) == max(factors) == 1) if jitter == 1 else 15 < smaller < 45


@several
@given(
    st.lists(st.tuples(st.integers(1, 4000), st.integers(1, 4000)), min_size=1, max_size=5),
    st.integers(64, 1024),
)
def test_the_canvas_is_the_smallest_on_which_every_picture_fits(
    pictures: list[tuple[int, int]], image_size: int
) -> None:
    height, width = training_canvas(pictures, image_size)
    scaled = [(w * image_size / max(w, h), h * image_size / max(w, h)) for w, h in pictures]
    for room, needed in ((width, max(w for w, _ in scaled)), (height, max(h for _, h in scaled))):
        assert needed - 1e-3 <= room < needed + 32 and room <= image_size
        assert room % 32 == 0 or room == image_size


def test_landscapes_get_a_landscape_and_both_shapes_or_turns_a_square() -> None:
    assert training_canvas([(400, 300), (800, 600)], 512) == (384, 512)
    assert training_canvas([(300, 400)], 512) == (512, 384)
    assert training_canvas([(400, 300), (300, 400)], 512) == (512, 512)
    assert training_canvas([(400, 300)], 512, square=True) == (512, 512)
    assert training_canvas([(400, 300), None, (0, 0)], 512) == (384, 512)
    assert training_canvas([None], 512) == training_canvas([], 512) == (512, 512)


def test_the_given_picture_and_target_stay_as_they_are() -> None:
    image, target = filled([[5, 5, 40, 40]], 60, 60), target_of([[5, 5, 40, 40]], 60, 60)
    before = image.clone(), target["boxes"].clone()
    for seed in range(5):
        torch.manual_seed(seed)
        TrainingTransform((SIZE, SIZE), quarter_turns=True)(image, target)
    assert torch.equal(image, before[0]) and torch.equal(target["boxes"], before[1])
    assert target["labels"].tolist() == [1] and target["boxes"].canvas_size == (60, 60)
