"""The objects cut out: what a crop shows, and how crops are held out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from data.crops import MARGIN, MAX_OVERLAP, coverage, crop_objects, typical_side
from data.dataset import Annotation, Dataset
from tests.data_sets import Thing, annotation

COLOURS = {"ace": (250, 0, 0), "king": (0, 0, 250), "queen": (0, 250, 0)}
GROUND = (90, 90, 90)
SIDE = 48


def dataset(
    folder: Path, pictures: list[list[Thing]], size: tuple[int, int] = (200, 160)
) -> Dataset:
    """Grey pictures with a filled rectangle for each thing."""
    records = []
    for i, things in enumerate(pictures):
        image = Image.new("RGB", size, GROUND)
        for name, left, top, right, bottom in things:
            corners = (left, top, max(left, right - 1), max(top, bottom - 1))
            ImageDraw.Draw(image).rectangle(corners, fill=COLOURS[name])
        image.save(folder / f"{i}.png")
        records.append(annotation(folder / f"{i}.png", things, size))
    return Dataset(records, list(COLOURS))


def many(folder: Path, count: int = 12) -> Dataset:
    """Pictures with one small object each, and an empty one after every third."""
    pictures: list[list[Thing]] = []
    for i in range(count):
        name = list(COLOURS)[i % 3]
        left, top = 10 + 10 * (i % 5), 10 + 7 * (i % 4)
        pictures.append([] if i % 4 == 3 else [(name, left, top, left + 30, top + 20)])
    return dataset(folder, pictures)


def shows(crop: torch.Tensor, colour: tuple[int, int, int]) -> torch.Tensor:
    """Which pixels of a (3, S, S) crop are of a colour."""
    expected = torch.tensor(colour)[:, None, None]
    return ((crop.int() - expected).abs() < 60).all(dim=0)


def test_a_crop_shows_its_object_in_the_middle_with_the_margin_around_it(tmp_path: Path) -> None:
    data = many(tmp_path)
    crops = crop_objects(data, SIDE)
    assert crops.images.dtype == torch.uint8
    assert crops.labels.dtype == crops.image_ids.dtype == torch.int64
    for label, image_id in zip(crops.labels.tolist(), crops.image_ids.tolist(), strict=True):
        assert label == 0 or [label] == data.labels(image_id)
    objects = crops.labels > 0
    assert int(objects.sum()) == 9
    for crop, label in zip(crops.images[objects], crops.labels[objects], strict=True):
        for k, colour in enumerate(COLOURS.values(), start=1):
            seen = shows(crop, colour)
            if k != int(label):
                assert not seen.any()
                continue
            columns, rows = seen.any(dim=0).nonzero(), seen.any(dim=1).nonzero()
            # 30 pixels of a window of 45, and 20 of it, scaled to 48.
            assert abs(len(columns) - SIDE / MARGIN) <= 2
            assert abs(len(rows) - SIDE / MARGIN * 2 / 3) <= 2
            assert abs(float(columns.float().mean()) - (SIDE - 1) / 2) <= 1
            assert abs(float(rows.float().mean()) - (SIDE - 1) / 2) <= 1


def test_background_crops_avoid_the_objects(tmp_path: Path) -> None:
    crops = crop_objects(dataset(tmp_path, [[("ace", 60, 50, 100, 90)]] * 60), 32)
    background = crops.images[crops.labels == 0]
    assert 5 <= len(background) <= 30  # about a quarter of the objects
    for crop in background:
        assert shows(crop, COLOURS["ace"]).float().mean() <= MAX_OVERLAP + 0.03
    positions = {crop.numpy().tobytes() for crop in background}
    assert len(positions) > 1 or len(background) == 1


def test_no_background_is_cut_where_objects_leave_no_room(tmp_path: Path) -> None:
    crops = crop_objects(dataset(tmp_path, [[("ace", 0, 0, 200, 160)]] * 20), 32)
    assert crops.labels.tolist() == [1] * 20


def test_coverage_is_the_share_of_the_window_that_a_box_takes() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [8.0, 8.0, 20.0, 20.0]])
    assert coverage(boxes, 0, 0, 10) == pytest.approx(1.0)
    assert coverage(boxes, 5, 0, 10) == pytest.approx(0.5)
    assert coverage(boxes, 30, 30, 10) == 0
    assert coverage(boxes[:1], 9, 9, 10) == pytest.approx(0.01)


def test_pictures_without_objects_give_no_crop_and_are_not_opened(tmp_path: Path) -> None:
    data = many(tmp_path)
    for i in range(len(data)):
        if not data.labels(i):
            data.path(i).unlink()
    crops = crop_objects(data, SIDE)
    assert all(data.labels(i) for i in crops.image_ids.tolist())


def test_a_data_set_without_any_object_gives_no_crops(tmp_path: Path) -> None:
    crops = crop_objects(dataset(tmp_path, [[], []]), SIDE)
    assert len(crops) == 0 and tuple(crops.images.shape) == (0, 3, SIDE, SIDE)
    assert crops.images.dtype == torch.uint8 and crops.labels.dtype == torch.int64
    assert [len(part) for part in crops.split(0.5, 0)] == [0, 0]


def test_whole_images_are_held_out_and_crops_keep_their_label(tmp_path: Path) -> None:
    things: list[Thing] = [("ace", 5, 5, 30, 30), ("king", 60, 60, 90, 90)]
    crops = crop_objects(dataset(tmp_path, [things] * 10), 16)
    train, held_out = crops.split(0.3, seed=1)
    assert len(train) + len(held_out) == len(crops)
    assert len(held_out.image_ids.unique()) == 3
    assert not set(train.image_ids.tolist()) & set(held_out.image_ids.tolist())
    again, other = crops.split(0.3, seed=1)[1], crops.split(0.3, seed=2)[1]
    assert torch.equal(again.image_ids, held_out.image_ids)
    assert not torch.equal(other.image_ids.unique(), held_out.image_ids.unique())
    for part in (train, held_out):
        for crop, label in zip(part.images, part.labels.tolist(), strict=True):
            assert not label or shows(crop, list(COLOURS.values())[label - 1])[8, 8]


def test_no_more_images_are_cut_once_there_are_enough_crops(tmp_path: Path) -> None:
    data = dataset(tmp_path, [[("ace", 5, 5, 30, 30)] * 3] * 10)
    calls: list[tuple[int, int]] = []
    crops = crop_objects(data, 16, max_crops=7, progress=lambda *done: calls.append(done))
    assert 7 <= len(crops) <= 7 + 5
    assert calls == [(i + 1, 10) for i in range(len(calls))] and len(calls) in (2, 3)
    drawn = [set(crop_objects(data, 16, max_crops=4, seed=s).image_ids.tolist()) for s in range(6)]
    assert len(set(map(frozenset, drawn))) > 1


def test_the_same_seed_cuts_the_same(tmp_path: Path) -> None:
    data = many(tmp_path)
    first, again, other = (crop_objects(data, 16, seed=seed) for seed in (4, 4, 5))
    assert torch.equal(first.images, again.images) and torch.equal(first.labels, again.labels)
    assert not torch.equal(first.image_ids[:5], other.image_ids[:5])


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 1500, 1200), (700, 600, 701, 601), (0, 0, 3, 1200), (1499, 1199, 1500, 1200),
        (0.2, 0.2, 0.7, 0.9), (-300, 100, 900, 400),
    ],
)  # fmt: skip
def test_extremely_large_small_and_thin_objects_are_cut(
    box: tuple[float, float, float, float], tmp_path: Path
) -> None:
    data = dataset(tmp_path, [[("ace", *box)]], (1500, 1200))
    crops = crop_objects(data, SIDE)
    crop = crops.images[crops.labels == 1]
    assert tuple(crop.shape) == (1, 3, SIDE, SIDE)
    if min(box[2] - box[0], box[3] - box[1]) >= 1:
        # Red, or in a thin object's case at least redder than the ground and the margin (8).
        assert (crop[0, 0].int() - crop[0, 1].int()).max() > 14


def test_an_object_of_a_pixel_is_shown_with_some_of_what_is_around_it(tmp_path: Path) -> None:
    data = dataset(tmp_path, [[("ace", 50, 50, 51, 51)]])
    share = shows(crop_objects(data, SIDE).images[0], COLOURS["ace"]).float().mean()
    assert 0.02 < share < 0.25


def test_a_large_object_is_shrunk_without_aliasing(tmp_path: Path) -> None:
    """Stripes of one pixel become their mean instead of a pattern."""
    stripes = np.zeros((1000, 1000, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "a.png")
    record = Annotation(
        tmp_path / "a.png", np.array([[250, 250, 750, 750]], np.float32), ("ace",), np.zeros(1)
    )
    crop = crop_objects(Dataset([record], ["ace"]), 32).images[0].float()
    assert (crop - 127.5).abs().max() < 12


def test_the_typical_side_is_the_median_at_the_model_s_image_size_or_a_quarter_of_it(
    tmp_path: Path,
) -> None:
    things = [[("ace", 0, 0, 20, 10), ("ace", 0, 0, 10, 40)], [("king", 0, 0, 100, 90)], []]
    data = dataset(tmp_path, things)
    assert typical_side(data, 400) == pytest.approx(80)  # sides 20, 40, 100 of 200 pixels
    assert typical_side(data, 100) == pytest.approx(20)
    unstated = annotation(Path("a.png"), things[0])
    for records in ([unstated], []):
        assert typical_side(Dataset(records, list(COLOURS)), 400) == 100
