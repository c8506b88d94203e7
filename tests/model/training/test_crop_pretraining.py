"""Crop pre-training: budgets, balanced batches, views of a crop, and a classifier that learns."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from model.training import crop_pretraining
from model.training.crop_pretraining import (
    AUTO_SHARE,
    AUTO_STEPS,
    CropBatches,
    CropClassifier,
    central_views,
    crop_loader,
    fixed_budget,
    random_views,
)
from tests.memory_data import quiet_trainer
from tests.small_models import SIDE, build
from utils.errors import UserError
from utils.options import Budget

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

# --- budgets ---


def test_auto_grows_with_the_number_of_crops_between_two_bounds_and_other_budgets_stay() -> None:
    def steps(crops: int, detector_steps: int = 10_000) -> int:
        steps = fixed_budget(Budget(), crops, detector_steps).steps
        assert steps is not None
        return steps

    assert steps(0) == steps(1) == AUTO_STEPS[0]
    assert AUTO_STEPS[0] < steps(500) < steps(800) < AUTO_STEPS[1]
    assert steps(1_000_000) == AUTO_STEPS[1]
    assert steps(1_000_000, detector_steps=40) == AUTO_SHARE * 40
    for budget in (Budget(steps=0), Budget(steps=400), Budget(minutes=3)):
        assert fixed_budget(budget, 500, 1000) == budget


# --- batches ---


def batches_of(seed: int, count: int = 60) -> list[tuple[Tensor, Tensor]]:
    """Two crops of class 1 and thirty of class 3; a crop's pixels are its row."""
    labels = torch.tensor([1] * 2 + [3] * 30)
    images = torch.arange(32, dtype=torch.uint8)[:, None, None, None].expand(32, 3, 4, 4)
    return list(itertools.islice(CropBatches(images, labels, 16, seed), count))


def test_batches_have_every_class_equally_often_however_rare() -> None:
    batches = batches_of(seed=1)
    assert {tuple(images.shape) for images, _ in batches} == {(16, 3, 4, 4)}
    rows = torch.cat([images for images, _ in batches])[:, 0, 0, 0]
    labels = torch.cat([labels for _, labels in batches])
    assert (labels == 1).float().mean() == pytest.approx(0.5, abs=0.06)
    assert torch.equal(labels == 1, rows < 2), "crops keep their labels"
    assert set(rows.tolist()) == set(range(32)), "every crop is drawn"


def test_batches_follow_from_the_seed_alone() -> None:
    one = batches_of(seed=1, count=5)
    torch.manual_seed(123)
    torch.testing.assert_close(one, batches_of(seed=1, count=5), rtol=0, atol=0)
    other = batches_of(seed=2, count=5)
    assert any(not torch.equal(a, b) for (a, _), (b, _) in zip(one, other, strict=True))


# --- views ---


def test_random_views_are_fractions_of_the_requested_side_even_of_black_and_white() -> None:
    noise = torch.randint(0, 256, (40, 3, 24, 24), dtype=torch.uint8)
    black_and_white = torch.where(noise > 127, 255, 0).to(torch.uint8)
    for crops in (noise, black_and_white):
        views = random_views(crops, 16, 20.0)
        assert views.shape == (40, 3, 16, 16)
        assert views.dtype == torch.float32
        assert views.min() >= 0 and views.max() <= 1


def test_random_views_differ_each_time_and_from_crop_to_crop() -> None:
    crops = torch.randint(0, 256, (1, 3, 24, 24), dtype=torch.uint8).repeat(4, 1, 1, 1)
    one, other = random_views(crops, 16, 20.0), random_views(crops, 16, 20.0)
    assert not torch.equal(one, other)
    for a, b in itertools.combinations([*one, *other], 2):
        assert (a - b).abs().mean() > 0.01


def stripes() -> Tensor:
    """Rows of one brightness each, brighter from above to below."""
    rows = torch.linspace(40, 215, 48).to(torch.uint8)
    return rows[:, None].expand(32, 3, 48, 48).contiguous()


def test_random_views_rotate_by_no_more_than_max_rotation_and_are_never_upside_down() -> None:
    def largest_slope(max_rotation: float) -> float:
        """Change of brightness along a row, compared with that along a column."""
        views = random_views(stripes(), 32, max_rotation).mean(dim=1)
        assert (views.mean(dim=2)[:, -4] > views.mean(dim=2)[:, 4]).all()
        inner = views[:, 10:22, 10:22]
        across = (inner[:, :, -1] - inner[:, :, 0]).mean(dim=1).abs()
        along = (inner[:, -1] - inner[:, 0]).mean(dim=1).abs()
        return float((across / along).max())

    assert largest_slope(0.0) < 0.01
    assert 0.1 < largest_slope(20.0) < 1.3 * math.tan(math.radians(20))


def test_central_views_show_the_middle_of_the_crop() -> None:
    crops = torch.zeros(2, 3, 40, 40, dtype=torch.uint8)
    crops[:, 0] = 255
    crops[:, 0, 4:36, 4:36] = 0
    crops[:, 1, 4:36, 4:36] = 51
    views = central_views(crops, 16)
    assert views.shape == (2, 3, 16, 16)
    torch.testing.assert_close(views[:, 0], torch.zeros(2, 16, 16))
    torch.testing.assert_close(views[:, 1], torch.full((2, 16, 16), 0.2))


# --- the classifier ---


class Rates(pl.Callback):
    """Those of each step; fails a run that does not know when to stop."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        assert trainer.global_step < 60, "the budget is spent"
        self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])


def red_and_blue(count: int) -> tuple[Tensor, Tensor]:
    """uint8 crops: class 1 is red, class 2 is blue, both noisy."""
    labels = 1 + torch.arange(count) % 2
    crops = torch.randint(0, 100, (count, 3, 72, 72))
    crops[labels == 1, 0] += 150
    crops[labels == 2, 2] += 150
    return crops.to(torch.uint8), labels


def classifier(budget: Budget) -> CropClassifier:
    return CropClassifier(build().backbone.body, 3, SIDE, budget, mean=MEAN, std=STD)


def fit(model: CropClassifier, rates: Rates | None = None) -> pl.Trainer:
    steps = model.budget.steps or -1
    trainer = quiet_trainer(max_epochs=1, max_steps=steps, callbacks=[rates or Rates()])
    trainer.fit(model, crop_loader(*red_and_blue(30), seed=1))
    return trainer


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crop_pretraining, "BATCH_SIZE", 8)
    monkeypatch.setattr(crop_pretraining, "LINE_EVERY", 10)


@pytest.mark.slow
@pytest.mark.usefixtures("small_batches")
def test_a_classifier_learns_red_from_blue_and_its_accuracy_shows_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rates = Rates()
    model = classifier(Budget(steps=25))
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.momentum = 0.3  # statistics that settle within these few steps
    model.eval()
    held_out = red_and_blue(20)
    trainer = fit(model, rates)
    assert model.steps_done == trainer.global_step == 25
    assert model.seconds > 0
    assert model.accuracy(*held_out) == 1.0
    assert model.accuracy(held_out[0], 3 - held_out[1]) == 0.0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("crops ")]
    assert [line.split()[1:3] for line in lines] == [["step", "10"], ["step", "20"]]
    peak = rates.seen.index(max(rates.seen))
    assert 0 < peak < 5
    assert rates.seen[0] < 0.1 * rates.seen[peak]
    assert rates.seen[-1] < 0.1 * rates.seen[peak]


@pytest.mark.usefixtures("small_batches")
def test_a_budget_of_minutes_ends_in_time_and_its_step_moves_the_body() -> None:
    model = classifier(Budget(minutes=1e-6))
    before = [p.clone() for p in model.body.parameters()]
    assert fit(model).global_step == model.steps_done == 1
    assert all(not torch.equal(p, b) for p, b in zip(model.body.parameters(), before, strict=True))


@pytest.mark.usefixtures("small_batches")
def test_a_loss_that_is_no_number_stops_with_a_line_that_says_what_to_do() -> None:
    model = classifier(Budget(steps=3))
    before = [p.clone() for p in model.body.parameters()]
    with torch.no_grad():
        model.classifier.bias.fill_(math.nan)
    with pytest.raises(UserError, match="no longer finite at step 0; give --precision fp32"):
        fit(model)
    assert all(torch.equal(p, b) for p, b in zip(model.body.parameters(), before, strict=True))


def test_accuracy_is_measured_in_evaluation_mode_and_is_nan_without_crops() -> None:
    model = classifier(Budget(steps=1))
    crops, labels = red_and_blue(70)
    modes: list[bool] = []
    model.body.register_forward_pre_hook(lambda module, inputs: modes.append(module.training))
    assert 0 <= model.accuracy(crops, labels) <= 1
    assert modes == [False, False]
    assert math.isnan(model.accuracy(crops[:0], labels[:0]))
