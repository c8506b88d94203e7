"""Samples, targets, batches: types, pixels the right way up, and the same batches every time."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import tv_tensors

from data.augmentation import TrainingTransform
from data.dataset import Annotation, Dataset, Sample, SampleKey, read_image
from data.loader import SeededSampler, collate_fn, make_loader
from tests.data_sets import ACE, KING, Thing, draw_image
from utils.errors import UserError

RED, BLUE = (255, 0, 0), (0, 0, 255)
ORIENTATION = 0x0112


def annotate(
    path: Path, things: list[Thing] | None = None, size: tuple[int, int] | None = None
) -> Annotation:
    things = things or []
    return Annotation(
        image_path=path,
        boxes=np.array([t[1:] for t in things], dtype=np.float32).reshape(-1, 4),
        names=tuple(t[0] for t in things),
        difficult=np.array([i % 2 == 1 for i in range(len(things))], dtype=bool),
        size=size,
        source=f"{path.stem}.xml",
    )


@pytest.fixture
def cards(tmp_path: Path) -> Dataset:
    """Seven pictures of different sizes; the third and the sixth are empty."""
    annotations = []
    for i in range(7):
        things = [] if i % 3 == 2 else [ACE, KING][: 1 + i % 2]
        path = draw_image(tmp_path / f"{i}.png", things, (64 + 2 * i, 48 + i))
        annotations.append(annotate(path, things))
    return Dataset(annotations, ["king", "ace"])


def two_halves(size: tuple[int, int] = (40, 20)) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    return image


def save_turned(path: Path, orientation: int) -> Path:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    two_halves().save(path, exif=exif, quality=95)
    return path


def colour_at(image: Image.Image, x: int, y: int) -> str:
    red, _, blue = image.getpixel((x, y))  # type: ignore[misc]
    return "red" if red > blue else "blue"


# ---- samples


def test_a_sample_has_the_promised_types(cards: Dataset) -> None:
    sample = cards.sample(1)
    assert sample.image.mode == "RGB" and sample.image.size == (66, 49)
    assert sample.boxes.dtype == torch.float32 and sample.boxes.tolist() == [
        list(ACE[1:]),
        list(KING[1:]),
    ]
    assert sample.labels.dtype == torch.int64 and sample.labels.tolist() == [2, 1]
    assert sample.difficult.dtype == torch.bool and sample.difficult.tolist() == [False, True]


def test_an_item_is_a_uint8_image_and_a_target_that_belongs_to_it(cards: Dataset) -> None:
    image, target = cards[1]
    assert image.dtype == torch.uint8 and tuple(image.shape) == (3, 49, 66)
    assert set(target) == {"boxes", "labels", "difficult", "image_id"}
    assert isinstance(target["boxes"], tv_tensors.BoundingBoxes)
    assert target["boxes"].canvas_size == (49, 66) and target["boxes"].dtype == torch.float32
    assert target["labels"].tolist() == [2, 1] and target["difficult"].tolist() == [False, True]
    assert [cards[i][1]["image_id"] for i in range(7)] == list(range(7))


def test_a_picture_without_objects_is_an_ordinary_sample(cards: Dataset) -> None:
    sample, (_, target) = cards.sample(2), cards[2]
    for boxes, labels, difficult in (
        (sample.boxes, sample.labels, sample.difficult),
        (target["boxes"], target["labels"], target["difficult"]),
    ):
        assert tuple(boxes.shape) == (0, 4) and boxes.dtype == torch.float32
        assert tuple(labels.shape) == (0,) and labels.dtype == torch.int64
        assert tuple(difficult.shape) == (0,) and difficult.dtype == torch.bool


def test_boxes_of_any_number_type_become_float32(tmp_path: Path) -> None:
    path = draw_image(tmp_path / "a.png")
    for boxes in (np.zeros((0,)), np.zeros((0, 4), np.int64), np.array([[1, 2, 3, 4]], np.float64)):
        count = len(boxes)
        record = Annotation(path, boxes, ("x",) * count, np.zeros(count))
        sample = Dataset([record], ["x"]).sample(0)
        assert sample.boxes.dtype == torch.float32 and tuple(sample.boxes.shape) == (count, 4)


def test_labels_and_counts_need_no_image(tmp_path: Path) -> None:
    data = Dataset([annotate(tmp_path / "gone.png", [ACE, KING, ACE])], ["king", "ace", "queen"])
    assert data.labels(0) == [2, 1, 2] and data.path(0) == tmp_path / "gone.png"
    assert data.label_counts() == {"king": 1, "ace": 2, "queen": 0}
    assert list(data.label_counts()) == ["king", "ace", "queen"]


def test_an_unknown_class_is_refused_with_the_nearest_name_and_the_place(tmp_path: Path) -> None:
    records = [annotate(tmp_path / f"{i}.png", [("quen", 1, 1, 5, 5)]) for i in range(2)]
    with pytest.raises(UserError) as caught:
        Dataset(records, ["ace", "queen"])
    message = str(caught.value)
    assert "'quen' in 2 object(s)" in message and "did you mean 'queen'?" in message
    assert "ace, queen" in message and ".xml" in message and "\n" not in message


def test_a_renamed_set_keeps_its_objects_names(cards: Dataset) -> None:
    renamed = cards.renamed_to(["queen", "ace", "king"])
    assert renamed.labels(1) == [2, 3] and cards.labels(1) == [2, 1]
    with pytest.raises(UserError, match="'king'"):
        cards.renamed_to(["ace"])


def test_a_subset_and_another_transform_leave_the_first_set_alone(cards: Dataset) -> None:
    few = cards.subset([3, 1]).with_transform(lambda image, target: (image[:, :5, :5], target))
    assert len(few) == 2 and tuple(few[0][0].shape) == (3, 5, 5)
    assert few.path(0) == cards.path(3) and few.class_names == cards.class_names
    cut = cards.with_transform(lambda image, target: (image[:, :3, :3], target))
    assert tuple(cut[0][0].shape) == (3, 3, 3)
    assert len(cards) == 7 and cards.transform is None and cards[0][0].shape[1] == 48


# ---- reading images


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize(
    ("orientation", "size", "red_corner"),
    [
        (1, (40, 20), (2, 2)),
        (2, (40, 20), (37, 2)),
        (3, (40, 20), (37, 17)),
        (4, (40, 20), (2, 17)),
        (5, (20, 40), (2, 2)),
        (6, (20, 40), (17, 2)),
        (7, (20, 40), (17, 37)),
        (8, (20, 40), (2, 37)),
    ],
)
def test_an_image_is_turned_as_its_exif_says(
    suffix: str,
    orientation: int,
    size: tuple[int, int],
    red_corner: tuple[int, int],
    tmp_path: Path,
) -> None:
    path = save_turned(tmp_path / f"a.{suffix}", orientation)
    for annotated in (None, size if size != (40, 20) else None, (999, 1)):
        image = read_image(path, annotated)
        assert image.size == size
        assert colour_at(image, *red_corner) == "red"
        opposite = (size[0] - 1 - red_corner[0], size[1] - 1 - red_corner[1])
        assert colour_at(image, *opposite) == "blue"


def test_an_image_annotated_as_stored_is_left_as_stored(tmp_path: Path) -> None:
    """The annotation tool ignored the orientation: its boxes belong to the stored pixels."""
    path = save_turned(tmp_path / "a.jpg", 6)
    image = read_image(path, (40, 20))
    assert image.size == (40, 20)
    assert colour_at(image, 2, 10) == "red" and colour_at(image, 37, 10) == "blue"
    data = Dataset([annotate(path, size=(40, 20)), annotate(path, size=(20, 40))], [])
    assert [tuple(data[i][0].shape) for i in (0, 1)] == [(3, 20, 40), (3, 40, 20)]


def exif_bytes(*entries: tuple[int, int, int, bytes]) -> bytes:
    """EXIF data of (tag, type, count, four bytes) as a camera may write them."""
    rows = b"".join(struct.pack(">HHI4s", *entry) for entry in entries)
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", len(entries)) + rows + bytes(4)


def test_odd_exif_data_beside_the_orientation_do_no_harm(tmp_path: Path) -> None:
    """A number stored as text: Pillow reads such data and cannot write them."""
    turned = (ORIENTATION, 3, 1, b"\0\x06\0\0")
    odd = (0x0106, 2, 4, b"two\0")
    two_halves().save(tmp_path / "a.jpg", exif=exif_bytes(odd, turned))
    image = read_image(tmp_path / "a.jpg")
    assert image.size == (20, 40) and colour_at(image, 10, 2) == "red"


@pytest.mark.parametrize("value", [0, 9, 255])
def test_an_orientation_that_does_not_exist_turns_nothing(value: int, tmp_path: Path) -> None:
    exif = exif_bytes((ORIENTATION, 3, 1, bytes([0, value, 0, 0])))
    two_halves().save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").size == (40, 20)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(suffix: str, tmp_path: Path) -> None:
    grey = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / f"a.{suffix}")
    read = np.asarray(read_image(tmp_path / f"a.{suffix}"))
    assert read.shape == (16, 16, 3)
    np.testing.assert_array_equal(read[..., 0].ravel(), np.arange(256))


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("P", "png"),
        ("RGBA", "png"),
        ("L", "png"),
        ("LA", "png"),
        ("1", "png"),
        ("CMYK", "jpg"),
        ("P", "gif"),
    ],
)
def test_every_mode_becomes_rgb(mode: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    two_halves().convert(mode).save(path)
    image = read_image(path)
    assert image.mode == "RGB" and image.size == (40, 20)
    left, right = image.getpixel((5, 10)), image.getpixel((35, 10))
    if mode in ("P", "RGBA", "CMYK"):
        np.testing.assert_allclose([left, right], [RED, BLUE], atol=12)
    else:
        assert left[0] == left[1] == left[2] and left != right or mode == "1"  # type: ignore[index]


def test_a_missing_truncated_or_other_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    whole = draw_image(tmp_path / "whole.jpg", [ACE], (200, 200)).read_bytes()
    broken = {
        "missing.jpg": None,
        "short.jpg": whole[: len(whole) // 2],
        "text.jpg": b"no image at all",
        "empty.jpg": b"",
    }
    for name, content in broken.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UserError) as caught:
            Dataset([annotate(path)], []).sample(0)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(UserError, match="folder.jpg"):
        read_image(tmp_path / "folder.jpg")


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=60, deadline=None)
@given(suffix=st.sampled_from(["jpg", "png", "tif", "webp"]), data=st.data())
def test_a_damaged_file_is_read_or_refused_and_never_something_else(
    suffix: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = save_turned(tmp_path_factory.mktemp("damaged") / f"a.{suffix}", 6)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        assert read_image(path).mode == "RGB"
    except UserError as error:
        assert str(path) in str(error)


def test_reading_leaves_the_file_s_bytes_and_time_alone(tmp_path: Path) -> None:
    path = save_turned(tmp_path / "a.jpg", 6)
    os.utime(path, (1e9, 1e9))
    before = (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode)
    read_image(path)
    Dataset([annotate(path)], [])[0]
    assert (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode) == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.jpg"]


def test_an_image_outlives_its_file(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    path = draw_image(folder / "a.png", [ACE])
    image = read_image(path)
    shutil.rmtree(folder)
    assert np.asarray(image).shape == (48, 64, 3)


# ---- order and batches


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 40), st.integers(0, 2**31 - 1), st.integers(0, 10**4), st.booleans())
def test_seed_and_epoch_alone_give_the_keys(
    length: int, seed: int, epoch: int, shuffle: bool
) -> None:
    first, again = SeededSampler(length, seed, shuffle), SeededSampler(length, seed, shuffle)
    list(again)
    first.set_epoch(epoch)
    again.set_epoch(epoch)
    keys = list(first)
    assert keys == list(again) == list(first) and len(first) == len(keys) == length
    rows = [key.row for key in keys]
    assert sorted(rows) == list(range(length)) and (shuffle or rows == sorted(rows))


def test_another_epoch_or_seed_gives_another_order_and_other_randomness() -> None:
    def keys(seed: int, epoch: int, shuffle: bool = True) -> list[SampleKey]:
        sampler = SeededSampler(50, seed, shuffle)
        sampler.set_epoch(epoch)
        return list(sampler)

    drawn = [keys(0, 0), keys(0, 1), keys(1, 0), keys(1, 1)]
    assert len({tuple(k.row for k in some) for some in drawn}) == 4
    seeds = [k.seed for some in (*drawn, keys(0, 2, False), keys(0, 3, False)) for k in some]
    assert len(set(seeds)) == len(seeds)


def test_a_batch_is_a_list_of_images_of_any_size_and_of_targets(cards: Dataset) -> None:
    images, targets = collate_fn([cards[i] for i in (0, 2)])
    assert isinstance(images, list) and isinstance(targets, list)
    assert [tuple(i.shape) for i in images] == [(3, 48, 64), (3, 50, 68)]
    assert [t["image_id"] for t in targets] == [0, 2]


def test_every_image_comes_once_and_in_order_and_the_last_batch_may_be_smaller(
    cards: Dataset,
) -> None:
    batches = list(make_loader(cards, 3))
    assert [[t["image_id"] for t in targets] for _, targets in batches] == [
        [0, 1, 2], [3, 4, 5], [6],
    ]  # fmt: skip
    shuffled = [
        t["image_id"] for _, targets in make_loader(cards, 3, shuffle=True) for t in targets
    ]
    assert sorted(shuffled) == list(range(7)) and shuffled != sorted(shuffled)


def plain(loader: torch.utils.data.DataLoader, epoch: int) -> list[tuple]:
    """An epoch's batches as something that can be compared."""
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return [
        (
            [image.numpy().tobytes() for image in images],
            [
                (t["boxes"].tolist(), t["labels"].tolist(), t["difficult"].tolist(), t["image_id"])
                for t in targets
            ],
        )
        for images, targets in loader
    ]


def test_batches_do_not_depend_on_the_workers_nor_on_what_was_drawn_before(
    cards: Dataset,
) -> None:
    data = cards.with_transform(TrainingTransform((64, 64), quarter_turns=True))
    alone = make_loader(data, 3, shuffle=True, seed=5)
    with_two = make_loader(data, 3, shuffle=True, seed=5, workers=2)
    expected = plain(alone, 1)
    torch.rand(100)
    assert plain(alone, 0) != expected == plain(alone, 1)
    # Workers that stay from epoch to epoch, as in training, and in any order of epochs.
    assert plain(with_two, 1) == expected
    assert plain(with_two, 0) == plain(alone, 0)
    assert with_two.persistent_workers
    other = make_loader(data, 3, shuffle=True, seed=6)
    assert plain(other, 1) != expected


def test_the_batch_size_changes_no_sample(cards: Dataset) -> None:
    data = cards.with_transform(TrainingTransform((64, 64)))
    items = [
        sorted(
            (t["image_id"], i.numpy().tobytes())
            for images, targets in make_loader(data, size, shuffle=True, seed=1)
            for i, t in zip(images, targets, strict=True)
        )
        for size in (1, 4)
    ]
    assert items[0] == items[1]


def test_a_sample_s_randomness_does_not_disturb_the_program_s(cards: Dataset) -> None:
    data = cards.with_transform(TrainingTransform((64, 64)))
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    first, _ = data[SampleKey(0, 11)]
    assert torch.equal(torch.rand(4), expected)
    assert torch.equal(data[SampleKey(0, 11)][0], first)
    assert not torch.equal(data[SampleKey(0, 12)][0], first)


def test_a_box_is_clipped_to_the_picture_and_one_outside_it_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (40, 30)).save(path)

    def sample(box: list[float]) -> Sample:
        boxes = np.array([box], dtype=np.float32)
        flags = np.zeros(1, dtype=bool)
        annotation = Annotation(path, boxes, ("ace",), flags, (400, 300), "a.xml")
        return Dataset([annotation], ["ace"]).sample(0)

    assert sample([-3, 5, 50, 20]).boxes.tolist() == [[0, 5, 40, 20]]
    with pytest.raises(UserError, match=r"a.xml: object 1, ace.*40x30"):
        sample([200, 100, 300, 200])
