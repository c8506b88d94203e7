"""Images that are deleted or damaged during a run: left out, reported, and no reason to stop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from data.crops import crop_objects
from data.dataset import Dataset, SampleKey
from data.loader import make_loader
from evaluation.run_pictures import save_detections
from model.lightning_trainer import DetectorModule, Recipe
from tests.data_sets import annotation, photo
from tests.image_results import result_from_tensors
from tests.memory_data import quiet_trainer
from tests.small_models import build, with_varied_outputs
from training.lost_images import LostImages
from utils.errors import UserError

NAMES = ("ace", "king")
COUNT = 4


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    records = []
    for row in range(COUNT):
        path = tmp_path / f"{row}.png"
        photo(row, (64, 64)).save(path)
        records.append(annotation(path, [(NAMES[row % 2], 8, 8, 40, 44)], (64, 64)))
    return Dataset(records, NAMES)


class Vandal(pl.Callback):
    """Damages images when the second epoch begins, after all of them were probed."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 1:
            for path in self.paths:
                path.write_bytes(path.read_bytes()[:99])


def notes(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The texts of the printed notes."""
    lines = capsys.readouterr().out.splitlines()
    return [line.split(maxsplit=1)[1] for line in lines if line.startswith("note ")]


def fit(
    dataset: Dataset, lost: Sequence[int], *, workers: int = 0, epochs: int = 2
) -> DetectorModule:
    validation = dataset.with_transform(None).subset(range(COUNT))
    module = DetectorModule(build(), NAMES, Recipe())
    callbacks = [Vandal([dataset.path(i) for i in lost]), LostImages()]
    trainer = quiet_trainer(max_epochs=epochs, callbacks=callbacks)
    trainer.fit(module, *(make_loader(d, 2, workers=workers) for d in (dataset, validation)))
    return module


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_goes_on_without_the_images_and_says_once_which(
    dataset: Dataset, workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    module = fit(dataset, [0, 1], workers=workers, epochs=3 - workers)
    validation, training = sorted(notes(capsys), key=lambda text: "training" in text)
    assert "epoch 2: 2 training image(s) could not be read and were left out" in training
    assert "epoch 2: 2 validation image(s)" in validation
    assert str(dataset.path(0)) in training and str(dataset.path(1)) in training
    # Rows 0 and 1 are a whole batch of validation.
    assert [result.image_id for result in module.results] == [2, 3]
    assert module.images_per_epoch == COUNT - 2
    assert not dataset.unreadable.any(), "each epoch counts anew"


def test_where_most_images_are_gone_the_run_ends_in_a_line(dataset: Dataset) -> None:
    words = r"epoch 2: 3 (training|validation) images .*disk"
    with pytest.raises(UserError, match=words) as caught:
        fit(dataset, [1, 2, 3])
    assert "\n" not in str(caught.value)


def validate(dataset: Dataset, lost: Sequence[int]) -> None:
    """As a monitor does."""
    for row in lost:
        dataset.path(row).unlink()
    trainer, loader = quiet_trainer(callbacks=[LostImages()]), make_loader(dataset, 2)
    trainer.validate(DetectorModule(build(), NAMES), loader, verbose=False)


def test_a_monitor_speaks_of_no_epoch(dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    validate(dataset, [1])
    assert notes(capsys) == [
        "1 validation image(s) could not be read and were left out: " + str(dataset.path(1))
    ]


def test_a_monitor_without_most_images_ends_in_a_line_without_an_epoch(dataset: Dataset) -> None:
    with pytest.raises(UserError, match=r"^3 validation images can no longer be read"):
        validate(dataset, [0, 1, 2])


def test_an_image_that_comes_back_is_used_again(dataset: Dataset) -> None:
    content = dataset.path(2).read_bytes()
    dataset.path(2).unlink()
    loader = make_loader(dataset, 3)
    assert sum(len(images) for images, _ in loader) == COUNT - 1
    assert dataset.unreadable.nonzero().flatten().tolist() == [2]
    dataset.path(2).write_bytes(content)
    assert sum(len(images) for images, _ in loader) == COUNT


def test_what_was_left_out_is_known_behind_a_transform_and_a_subset_has_its_own(
    dataset: Dataset,
) -> None:
    dataset.path(2).unlink()
    few = dataset.subset([2, 3])
    assert dataset.with_transform(None)[SampleKey(2, 0)] is None
    assert dataset.unreadable.tolist() == [row == 2 for row in range(COUNT)]
    assert not few.unreadable.any()
    assert few[SampleKey(0, 0)] is None and few.unreadable.tolist() == [True, False]


def test_requested_by_its_number_a_missing_image_is_an_error(dataset: Dataset) -> None:
    dataset.path(2).unlink()
    with pytest.raises(UserError, match="the image is missing"):
        dataset[2]


def test_crops_and_pictures_are_made_of_the_others(dataset: Dataset, tmp_path: Path) -> None:
    dataset.path(2).unlink()
    crops = crop_objects(dataset, 16)
    assert set(crops.image_ids.tolist()) == set(range(COUNT)) - {2}
    nothing = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0)}
    results = [result_from_tensors(dataset[i][1], nothing) for i in range(2)]  # type: ignore
    for path in (dataset.path(0), dataset.path(1)):
        save_detections(results, dataset, tmp_path / "grid.jpg", 0.5)
        assert (tmp_path / "grid.jpg").is_file()
        (tmp_path / "grid.jpg").unlink()
        path.unlink()
    save_detections(results, dataset, tmp_path / "grid.jpg", 0.5)
    assert not (tmp_path / "grid.jpg").exists()


def test_the_module_passes_over_an_empty_batch(dataset: Dataset) -> None:
    module = DetectorModule(with_varied_outputs(build()), NAMES)
    module.log = None  # type: ignore[assignment]  # there is no loss to show
    assert module.training_step(([], []), 0) is None
    assert module.validation_step(([], []), 0) is None
