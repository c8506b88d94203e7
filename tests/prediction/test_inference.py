"""A detector on images without labels: its detections, what is read, and how much at once."""

from __future__ import annotations

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

from evaluation.metrics.results import Detections
from prediction import inference
from prediction.inference import Prediction, predict
from tests.predicting import noise, saved
from tests.small_models import build, with_varied_outputs
from utils.errors import UserError

NAMES = ("ace", "king", "queen", "jack", "ten", "nine")
THRESHOLD = 0.5


@pytest.fixture(scope="module")
def model() -> RetinaNet:
    """Its scores lie apart: equal ones would come in any order."""
    torch.manual_seed(1)
    model = with_varied_outputs(build(score_thresh=0.01), spread=0.3)
    with torch.no_grad():
        model.head.classification_head.cls_logits.weight.mul_(0.05)
    return model


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Seven, of two sizes."""
    sizes = [(64, 48), (64, 48), (40, 64)]
    return [saved(tmp_path / f"{i}.png", noise(i, sizes[i % 3])) for i in range(7)]


def detect(model: RetinaNet, images: Sequence[Any], **more: Any) -> list[Prediction]:
    return list(predict(model, images, NAMES, **{"score_threshold": THRESHOLD, **more}))


def assert_same(one: Sequence[Prediction], other: Sequence[Prediction]) -> None:
    assert len(one) == len(other) and sum(len(p.detections) for p in one) > 0
    for a, b in zip(one, other, strict=True):
        assert (a.index, a.size, a.names, a.error) == (b.index, b.size, b.names, b.error)
        ours, theirs = a.detections, b.detections
        np.testing.assert_allclose(ours.scores, theirs.scores, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(ours.boxes, theirs.boxes, rtol=1e-5, atol=1e-3)


def test_a_prediction_is_what_the_model_detects_in_the_image(
    model: RetinaNet, photos: list[Path]
) -> None:
    predictions = detect(model, photos)
    assert sum(len(prediction.detections) for prediction in predictions) > 0
    for prediction, path in zip(predictions, photos, strict=True):
        image = Image.open(path)
        with torch.no_grad():
            output = model([F.to_dtype(F.pil_to_tensor(image), torch.float32, scale=True)])[0]
        keep = (output["scores"] >= THRESHOLD) & (output["labels"] > 0)
        keep &= (output["boxes"][:, :2] < output["boxes"][:, 2:]).all(1)
        boxes, scores, labels = (output[k][keep].numpy() for k in ("boxes", "scores", "labels"))
        assert prediction.source == path and prediction.size == image.size
        np.testing.assert_allclose(prediction.detections.scores, scores, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(prediction.detections.boxes, boxes, rtol=1e-5, atol=1e-3)
        assert np.array_equal(prediction.detections.labels, labels)
        assert prediction.names == tuple(NAMES[k - 1] for k in labels)
        assert prediction.image is None and prediction.error is None


def test_boxes_are_pixels_of_the_upright_image(model: RetinaNet, tmp_path: Path) -> None:
    upright = noise(1, (64, 40))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    paths = [
        saved(tmp_path / "upright.png", upright),
        saved(tmp_path / "camera.png", upright.transpose(Image.Transpose.ROTATE_90), exif=exif),
    ]
    first, second = detect(model, paths, score_threshold=0.3, keep_images=True)
    assert first.size == second.size == (64, 40) and len(first.detections) > 0
    boxes = [prediction.detections.boxes for prediction in (first, second)]
    np.testing.assert_allclose(boxes[1], boxes[0], rtol=1e-5, atol=1e-3)
    assert second.image is not None and second.image.tobytes() == upright.tobytes()


def test_transparent_grey_palette_and_16_bit_images_are_seen_as_their_colours(
    model: RetinaNet, tmp_path: Path
) -> None:
    rgb, grey = noise(2), noise(2).convert("L")
    rgba = rgb.copy()
    rgba.putalpha(grey)
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 256)
    palette = rgb.convert("P", palette=Image.Palette.ADAPTIVE)
    pairs = [(rgba, rgb), (grey, grey), (deep, grey), (palette, palette)]
    paths = [saved(tmp_path / f"{i}.png", image) for i, (image, _) in enumerate(pairs)]
    colours = [image.convert("RGB") for _, image in pairs]
    assert_same(detect(model, paths), detect(model, colours))


def test_an_image_in_memory_gives_what_its_file_gives(model: RetinaNet, photos: list[Path]) -> None:
    of_memory = detect(model, [Image.open(path) for path in photos])
    assert_same(of_memory, detect(model, [str(path) for path in photos]))
    assert [p.source for p in of_memory] == [None] * len(photos)


def test_neither_batch_nor_workers_change_the_detections(
    model: RetinaNet, photos: list[Path]
) -> None:
    one_by_one = detect(model, photos, batch_size=1)
    assert_same(detect(model, photos, batch_size=8), one_by_one)
    assert_same(detect(model, photos, batch_size=8, workers=2), one_by_one)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_reported_and_the_rest_go_on(
    model: RetinaNet, photos: list[Path], tmp_path: Path, workers: int
) -> None:
    truncated, empty, text = (tmp_path / name for name in ("t.png", "e.jpg", "x.jpg"))
    truncated.write_bytes(photos[0].read_bytes()[:-2000])
    empty.touch()
    text.write_text("no picture")
    bad = [truncated, empty, text, tmp_path / "gone.png", tmp_path]
    several = [photos[0], *bad, photos[1]]
    predictions = detect(model, several, batch_size=3, workers=workers)
    assert [p.source for p in predictions] == several
    assert [p.index for p in predictions] == list(range(len(several)))
    errors = [p.error or "" for p in predictions]
    assert errors[0] == errors[-1] == "" and len(predictions[-1].detections) > 0
    words = ("truncated", "empty", "not an image", "No such", "directory")
    for prediction, error, word in zip(predictions[1:-1], errors[1:-1], words, strict=True):
        assert word in error and str(tmp_path) not in error and len(error.splitlines()) == 1
        assert prediction.detections.boxes.shape == (0, 4) and prediction.size == (0, 0)


def test_any_error_of_pillow_concerns_one_image_only(
    model: RetinaNet, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> Image.Image:
        raise KeyError("odd tag\nsecond line") if path == photos[0] else IndexError

    monkeypatch.setattr(inference, "read_image", broken)
    errors = [p.error or "" for p in detect(model, photos[:2])]
    assert "odd tag" in errors[0] and "IndexError" in errors[1]


def test_large_images_are_read_without_a_warning(
    model: RetinaNet, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 48 - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert detect(model, photos[:1])[0].error is None


@pytest.mark.parametrize("workers", [0, 2])
def test_images_are_requested_shortly_before_their_batch(
    model: RetinaNet, photos: list[Path], workers: int
) -> None:
    requested = 0

    def many() -> Iterator[Path]:
        nonlocal requested
        for _ in range(60):
            requested += 1
            yield photos[requested % 3]

    predictions: Any = predict(model, many(), NAMES, batch_size=2, workers=workers)
    for number in range(5):
        assert next(predictions).index == number
        assert requested <= number + 8
    predictions.close()


def test_only_two_batches_of_decoded_images_are_alive_at_once(
    model: RetinaNet, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    images: list[weakref.ref[Image.Image]] = []
    most, read_image = 0, inference.read_image

    def alive() -> int:
        return sum(image() is not None for image in images)

    def counted(path: Path) -> Image.Image:
        nonlocal most
        image = read_image(path)
        images.append(weakref.ref(image))
        most = max(most, alive())
        return image

    monkeypatch.setattr(inference, "read_image", counted)
    for prediction in predict(model, photos, NAMES, batch_size=2, keep_images=True):
        assert prediction.image is not None
        del prediction
    assert 2 <= most <= 5 and alive() == 0


def replace_detector(
    monkeypatch: pytest.MonkeyPatch, *rows: tuple[list[float], int, float]
) -> list[int]:
    """Every image has these (box, label, score). Returns the sizes of the batches, as they come."""
    sizes: list[int] = []
    boxes, labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    detections = Detections(boxes, scores.astype(np.float32), labels)

    def detector(images: Sequence[torch.Tensor]) -> tuple[dict, list[Detections]]:
        sizes.append(len(images))
        return {}, [detections for _ in images]

    monkeypatch.setattr(inference, "Detector", lambda model, machine: detector)
    return sizes


def test_a_batch_of_large_images_ends_early(
    model: RetinaNet, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = replace_detector(monkeypatch, ([1, 2, 30, 40], 1, 0.9))
    monkeypatch.setattr(inference, "PIXELS_PER_BATCH", 2 * 64 * 48)
    assert len(detect(model, photos, batch_size=8)) == 7
    assert sum(sizes) == 7 and max(sizes) == 3


def test_only_boxes_with_an_area_at_the_threshold_are_objects(
    model: RetinaNet, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, flat, all_of_it = [1, 2, 30, 40], [64, 5, 64, 20], [0, 4, 64, 48]
    rows = (whole, 1, 0.9), (flat, 2, 0.7), (all_of_it, 6, 0.5), (whole, 3, 0.4999)
    replace_detector(monkeypatch, *rows)
    [prediction] = detect(model, photos[:1])
    assert prediction.names == ("ace", "nine") and prediction.detections.labels.tolist() == [1, 6]
    assert prediction.detections.boxes.tolist() == [whole, all_of_it]


def test_an_image_without_objects_is_an_ordinary_one(model: RetinaNet, photos: list[Path]) -> None:
    [prediction] = detect(model, photos[:1], score_threshold=1)
    detections = prediction.detections
    assert detections.boxes.shape == (0, 4) and detections.boxes.dtype == np.float32
    assert detections.labels.shape == (0,) and detections.labels.dtype == np.int64
    assert detections.scores.shape == (0,) and prediction.names == ()
    assert prediction.error is None and prediction.size == (64, 48)
    assert detect(model, []) == []


def test_what_does_not_fit_the_model_is_refused_before_an_image_is_read(
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
    expected = detect(model, photos)
    predictions = predict(model.train(), photos, NAMES, score_threshold=THRESHOLD)
    assert_same(list(predictions), expected)
