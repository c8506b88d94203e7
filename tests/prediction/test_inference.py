"""A detector on pictures without labels: what is found, what is read, and how much at once."""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from torchvision.models.detection import RetinaNet
from torchvision.transforms.v2 import functional as F

from data.image_files.find import find_images
from prediction import inference
from prediction.inference import Prediction, predict
from tests.small_models import build, enliven
from utils.errors import UserError

NAMES = ("ace", "king", "queen", "jack", "ten", "nine")
THRESHOLD = 0.5


@pytest.fixture(scope="module")
def model() -> RetinaNet:
    """Its scores lie apart: equal ones would come in any order."""
    torch.manual_seed(1)
    model = enliven(build(score_thresh=0.01), spread=0.3)
    with torch.no_grad():
        model.head.classification_head.cls_logits.weight.mul_(0.05)
    return model


def noise(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Coarse enough to look different everywhere."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def saved(path: Path, image: Image.Image, **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **more)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Seven, of two sizes in turn."""
    sizes = [(64, 48), (64, 48), (40, 64)]
    return [saved(tmp_path / f"{i}.png", noise(i, sizes[i % 3])) for i in range(7)]


def found(model: RetinaNet, images: Sequence[Any], **more: Any) -> list[Prediction]:
    return list(predict(model, images, NAMES, **{"score_threshold": THRESHOLD, **more}))


def assert_same(one: Sequence[Prediction], other: Sequence[Prediction]) -> None:
    assert len(one) == len(other) > 0
    assert sum(len(p.scores) for p in one) > 0
    for a, b in zip(one, other, strict=True):
        assert (a.index, a.size, a.names, a.error) == (b.index, b.size, b.names, b.error)
        torch.testing.assert_close(a.scores, b.scores, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(a.boxes, b.boxes, rtol=1e-5, atol=1e-3)


def test_a_prediction_is_what_the_model_detects_in_the_picture(
    model: RetinaNet, photos: list[Path]
) -> None:
    predictions = found(model, photos)
    assert sum(len(prediction.scores) for prediction in predictions) > 0
    for prediction, path in zip(predictions, photos, strict=True):
        image = Image.open(path)
        with torch.no_grad():
            own = model([F.to_dtype(F.pil_to_tensor(image), torch.float32, scale=True)])[0]
        keep = (own["scores"] >= THRESHOLD) & (own["labels"] > 0)
        keep &= (own["boxes"][:, :2] < own["boxes"][:, 2:]).all(1)
        assert prediction.source == path and prediction.size == image.size
        torch.testing.assert_close(prediction.scores, own["scores"][keep])
        torch.testing.assert_close(prediction.boxes, own["boxes"][keep], rtol=1e-5, atol=1e-3)
        assert torch.equal(prediction.labels, own["labels"][keep])
        assert prediction.names == tuple(NAMES[k - 1] for k in own["labels"][keep])
        assert prediction.image is None and prediction.error is None


def test_boxes_are_pixels_of_the_upright_picture(model: RetinaNet, tmp_path: Path) -> None:
    upright = noise(1, (64, 40))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    paths = [
        saved(tmp_path / "upright.png", upright),
        saved(tmp_path / "camera.png", upright.transpose(Image.Transpose.ROTATE_90), exif=exif),
    ]
    first, second = found(model, paths, score_threshold=0.3, keep_images=True)
    assert first.size == second.size == (64, 40) and len(first.scores) > 0
    torch.testing.assert_close(second.boxes, first.boxes, rtol=1e-5, atol=1e-3)
    assert second.image is not None and second.image.tobytes() == upright.tobytes()


def test_transparent_grey_palette_and_16_bit_pictures_are_seen_as_their_colours(
    model: RetinaNet, tmp_path: Path
) -> None:
    rgb, grey = noise(2), noise(2).convert("L")
    rgba = rgb.copy()
    rgba.putalpha(grey)
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 256)
    palette = rgb.convert("P", palette=Image.Palette.ADAPTIVE)
    pairs = [(rgba, rgb), (grey, grey), (deep, grey), (palette, palette)]
    paths = [saved(tmp_path / f"{i}.png", image) for i, (image, _) in enumerate(pairs)]
    assert_same(found(model, paths), found(model, [colours.convert("RGB") for _, colours in pairs]))


def test_a_picture_in_memory_gives_what_its_file_gives(
    model: RetinaNet, photos: list[Path]
) -> None:
    of_memory = found(model, [Image.open(path) for path in photos])
    assert_same(of_memory, found(model, [str(path) for path in photos]))
    assert [p.source for p in of_memory] == [None] * len(photos)


def test_neither_batch_nor_workers_change_what_is_found(
    model: RetinaNet, photos: list[Path]
) -> None:
    one_by_one = found(model, photos, batch_size=1)
    assert_same(found(model, photos, batch_size=8), one_by_one)
    assert_same(found(model, photos, batch_size=8, workers=2), one_by_one)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_picture_is_told_and_the_rest_go_on(
    model: RetinaNet, photos: list[Path], tmp_path: Path, workers: int
) -> None:
    truncated, empty, text = (tmp_path / name for name in ("t.png", "e.jpg", "x.jpg"))
    truncated.write_bytes(photos[0].read_bytes()[:-2000])
    empty.touch()
    text.write_text("no picture")
    bad = [truncated, empty, text, tmp_path / "gone.png", tmp_path]
    several = [photos[0], *bad, photos[1]]
    predictions = found(model, several, batch_size=3, workers=workers)
    assert [p.source for p in predictions] == several
    assert [p.index for p in predictions] == list(range(len(several)))
    errors = [p.error or "" for p in predictions]
    assert errors[0] == errors[-1] == "" and len(predictions[-1].scores) > 0
    for error, word in zip(
        errors[1:-1], ("truncated", "empty", "not a picture", "No such", "directory"), strict=True
    ):
        assert word in error and str(tmp_path) not in error and len(error.splitlines()) == 1
    for prediction in predictions[1:-1]:
        assert prediction.boxes.shape == (0, 4) and prediction.size == (0, 0)


def test_whatever_a_reader_of_pillow_raises_is_one_picture_s_affair(
    model: RetinaNet, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> Image.Image:
        raise KeyError("odd tag\nsecond line") if path == photos[0] else IndexError

    monkeypatch.setattr(inference, "read_image", broken)
    errors = [p.error or "" for p in found(model, photos[:2])]
    assert "odd tag" in errors[0] and "IndexError" in errors[1]


def test_large_pictures_are_read_in_silence_and_bombs_refused(
    model: RetinaNet, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = 64 * 48
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found(model, photos[:1])[0].error is None
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels // 3)
        assert "decompression bomb" in (found(model, photos[:1])[0].error or "")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_is_asked_for_shortly_before_its_turn(
    model: RetinaNet, photos: list[Path], workers: int
) -> None:
    asked = 0

    def many() -> Iterator[Path]:
        nonlocal asked
        for _ in range(60):
            asked += 1
            yield photos[asked % 3]

    predictions: Any = predict(model, many(), NAMES, batch_size=2, workers=workers)
    for number in range(5):
        assert next(predictions).index == number
        assert asked <= number + 8
    predictions.close()


def test_only_two_batches_of_decoded_pictures_are_alive_at_once(
    model: RetinaNet, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = most = 0
    read_image = inference.read_image

    def counted(path: Path) -> Image.Image:
        nonlocal alive, most

        def gone() -> None:
            nonlocal alive
            alive -= 1

        image = read_image(path)
        weakref.finalize(image, gone)
        alive += 1
        most = max(most, alive)
        return image

    monkeypatch.setattr(inference, "read_image", counted)
    for prediction in predict(model, photos, NAMES, batch_size=2, keep_images=True):
        assert prediction.image is not None
        del prediction
    assert 2 <= most <= 5
    assert alive == 0


def test_a_batch_of_large_pictures_ends_early(
    model: RetinaNet, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def nothing(model: RetinaNet, images: list[Any], targets: None) -> tuple[dict, list[dict]]:
        sizes.append(len(images))
        empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long()}
        return {}, [empty | {"scores": torch.zeros(0)} for _ in images]

    monkeypatch.setattr(inference, "losses_and_detections", nothing)
    monkeypatch.setattr(inference, "PIXELS_OF_A_BATCH", 2 * 64 * 48)
    assert len(found(model, photos, batch_size=8)) == 7
    assert sum(sizes) == 7 and max(sizes) == 3


def test_only_classes_with_an_area_inside_the_picture_are_objects(
    model: RetinaNet, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head scores the background too; it has no name."""
    detection = {
        "boxes": torch.tensor(
            [[1.0, 2, 30, 40], [5, 5, 20, 20], [70, 5, 90, 20], [-9, 4, 64.0001, 50], [3, 3, 9, 9]]
        ),
        "labels": torch.tensor([1, 0, 2, 6, 3]),
        "scores": torch.tensor([0.9, 0.8, 0.7, 0.6, 0.0999]),
    }
    monkeypatch.setattr(inference, "losses_and_detections", lambda *_: ({}, [detection]))
    [prediction] = found(model, photos[:1])
    assert prediction.names == ("ace", "nine") and prediction.labels.tolist() == [1, 6]
    assert prediction.boxes.tolist() == [[1, 2, 30, 40], [0, 4, 64, 48]]


def test_a_picture_without_objects_is_an_ordinary_one(model: RetinaNet, photos: list[Path]) -> None:
    [prediction] = found(model, photos[:1], score_threshold=1)
    assert prediction.boxes.shape == (0, 4) and prediction.boxes.dtype == torch.float32
    assert prediction.labels.shape == (0,) and prediction.labels.dtype == torch.int64
    assert prediction.scores.shape == (0,) and prediction.names == ()
    assert prediction.error is None and prediction.size == (64, 48)
    assert found(model, []) == []


def test_what_does_not_fit_the_model_is_refused_before_a_picture_is_read(
    model: RetinaNet, photos: list[Path]
) -> None:
    misfits: list[tuple[Any, Any, dict[str, Any], str]] = [
        (photos, NAMES[:5], {}, "5 names for a model of 6 classes"),
        (photos, (*NAMES, "joker"), {}, "7 names"),
        (photos[0], NAMES, {}, "list"),
        (str(photos[0]), NAMES, {}, "list"),
        (photos, NAMES, {"score_threshold": 0.005}, "0.01"),
        (photos, NAMES, {"score_threshold": 1.5}, "1.5"),
        (photos, NAMES, {"batch_size": 0}, "batch_size 0"),
        (photos, NAMES, {"workers": -1}, "workers -1"),
    ]
    for images, names, more, words in misfits:
        with pytest.raises(UserError, match=words):
            predict(model, images, names, **more)


def test_a_model_in_training_detects_as_in_evaluation(model: RetinaNet, photos: list[Path]) -> None:
    expected = found(model, photos)
    predictions = predict(model.train(), photos, NAMES, score_threshold=THRESHOLD)
    assert_same(list(predictions), expected)


def test_a_folder_gives_its_pictures_and_those_of_the_folders_in_it(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    wanted = ["a.png", "b.JPG", "deep/er/c.tiff", "deep/d.webp", "e f.gif", "g.jp2", "h.mpo"]
    others = ["notes.txt", "deep/labels.xml", "film.mpg", "numbers.h5", "README", "page.pdf"]
    hidden = [".cover.png", "._a.png", ".cache/x.png", "deep/.DS_Store"]
    for name in wanted + others + hidden:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "folder.png").mkdir()
    os.mkfifo(root / "pipe.png")
    pictures = find_images(root)
    assert sorted(pictures.names) == sorted(wanted)
    assert sum(pictures.others.values()) == len(others) + 1 and not pictures.unlisted
    assert list(pictures.paths) == sorted(root / name for name in wanted)


def test_links_neither_loop_nor_give_a_picture_twice(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    saved(root / "z" / "in.png", noise(1))
    saved(elsewhere / "out.png", noise(2))
    saved(tmp_path / "sibling.png", noise(3))
    (root / "a").symlink_to(root / "z")
    (root / "z" / "up").symlink_to(root)
    (root / "z" / "above").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    (root / "link").symlink_to(elsewhere)
    (root / "link2").symlink_to(elsewhere)
    (root / "gone.png").symlink_to(tmp_path / "no-such-file")
    names = find_images(root).names
    assert len(names) == 3 and {"z/in.png", "gone.png"} < set(names)
    assert sum(name.startswith("link") for name in names) == 1


def test_a_file_is_a_picture_whatever_it_is_called(tmp_path: Path) -> None:
    for name in ("scan", ".hidden", "x.dat"):
        pictures = find_images(saved(tmp_path / name, noise(1), format="PNG"))
        assert pictures.names == [name] and pictures.paths == (tmp_path / name,)


def test_a_folder_that_cannot_be_listed_is_told_and_the_rest_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "a.png", noise(1))
    (tmp_path / "locked").mkdir()
    scandir = os.scandir

    def guarded(path: str) -> Any:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    pictures = find_images(tmp_path)
    assert pictures.names == ["a.png"]
    [(folder, reason)] = pictures.unlisted
    assert folder == str(tmp_path / "locked") and "Permission denied" in reason


def test_a_path_without_pictures_is_one_line_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match="no pictures .other files: 1 .txt") as error:
        find_images(tmp_path)
    assert str(tmp_path) in str(error.value)
    with pytest.raises(UserError, match="no-such.*no such file or folder"):
        find_images(tmp_path / "no-such")


def test_files_that_are_left_alone_are_counted_by_their_kind(tmp_path: Path) -> None:
    for name in ("a.heic", "b.HEIC", "c.txt", "noext"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"no pictures \(other files: 2 .heic, 1 .txt, 1 no ext"):
        find_images(tmp_path)
