"""Training and validation: schedule, average, resuming, and a mAP that batches cannot move."""

from __future__ import annotations

import contextlib
import copy
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from data.dataset import Target
from data.loader import make_loader
from model.checkpoint import WholeCheckpointIO, load_checkpoint
from model.lightning_trainer import DetectorModule, NonFiniteLoss
from model.training.recipe import Recipe
from tests.memory_data import NAMES, PicturesInMemory, quiet_trainer
from tests.small_models import DESCRIPTION, SIDE, build, pictures, target

RECIPE = Recipe(learning_rate=1e-3, warmup_steps=2, seed=5)


def mirror_and_light(image: Tensor, target: Target) -> tuple[Tensor, Target]:
    """A random transform."""
    change = v2.Compose([v2.RandomHorizontalFlip(), v2.ColorJitter(0.3, 0.3)])
    image, target = change(image, target)
    return image.as_subclass(Tensor), target


# --- three epochs, in one go and interrupted ---


class Interrupted(Exception):
    pass


@dataclass
class Watch(pl.Callback):
    """Records modes and states, and interrupts the run before an epoch."""

    stop_before: int | None = None
    modes: list[tuple[bool, bool]] = field(default_factory=list)
    states: list[dict[str, Tensor]] = field(default_factory=list)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.current_epoch == self.stop_before:
            raise Interrupted

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        every_part = all(m.training for m in pl_module.model.modules())
        self.modes.append((every_part, any(m.training for m in pl_module.average.modules())))
        # A callback's end of a batch comes before the module's, which moves the average.
        if trainer.global_step <= 1:
            self.states.append(copy.deepcopy(pl_module.state_dict()))


@dataclass
class Run:
    """The results of a run."""

    watch: Watch
    module: DetectorModule
    last: Path


def run_epochs(
    folder: Path, *, stop_before: int | None = None, resume: Path | None = None, luck: int = 0
) -> Run:
    torch.manual_seed(7)
    model = build().eval()
    torch.manual_seed(luck)
    train = PicturesInMemory([(48, 64), (64, 64), (70, 50), (90, 128), (40, 40), (64, 32)])
    checkpoint = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True)
    watch = Watch(stop_before)
    trainer = quiet_trainer(
        max_epochs=3,
        gradient_clip_val=10.0,
        enable_checkpointing=True,
        callbacks=[watch, checkpoint],
        plugins=[WholeCheckpointIO()],
    )
    module = DetectorModule(model, NAMES, RECIPE, DESCRIPTION.as_plain())
    loader = make_loader(train.with_transform(mirror_and_light), batch_size=4, shuffle=True, seed=3)
    validation = make_loader(train.subset([0, 1]), batch_size=2)
    with contextlib.suppress(Interrupted):
        trainer.fit(module, loader, validation, ckpt_path=resume, weights_only=True)
        assert stop_before is None
    return Run(watch, module, folder / "last.ckpt")


@pytest.fixture(scope="module")
def in_one_go(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_epochs(tmp_path_factory.mktemp("in_one_go"))


def assert_equal_to_the_bit(one: Any, other: Any, path: str = "") -> None:
    assert type(one) is type(other), path
    if isinstance(one, Tensor):
        assert torch.equal(one, other), path
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            assert_equal_to_the_bit(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, (list, tuple)):
        assert_equal_to_the_bit(dict(enumerate(one)), dict(enumerate(other)), path)
    else:
        assert one == other, path


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_bits_of_an_uninterrupted_one(
    in_one_go: Run, tmp_path: Path
) -> None:
    interrupted = run_epochs(tmp_path / "interrupted", stop_before=2)
    resumed = run_epochs(tmp_path / "resumed", resume=interrupted.last, luck=99)
    assert in_one_go.watch.modes == [(True, False)] * 6, "the model came in evaluation mode"
    assert resumed.watch.modes == [(True, False)] * 2, "one epoch was left, in training mode"
    epochs = [load_checkpoint(run.last).epoch for run in (interrupted, resumed, in_one_go)]
    assert epochs == [2, 3, 3]
    one, other = (torch.load(run.last, weights_only=True) for run in (in_one_go, resumed))
    for part in ("state_dict", "weights", "optimizer_states", "lr_schedulers", "global_step"):
        assert_equal_to_the_bit(one[part], other[part], part)
    before = torch.load(interrupted.last, weights_only=True)["weights"]
    assert any(not torch.equal(t, before[n]) for n, t in other["weights"].items())


def test_after_one_step_the_average_lies_between_start_and_model(in_one_go: Run) -> None:
    start, after = in_one_go.watch.states
    moved = []
    for name in (n for n in start if n.startswith("model.")):
        average = after[f"average.module.{name.removeprefix('model.')}"]
        if not average.is_floating_point():
            assert torch.equal(average, after[name]), name
            continue
        # The average of one earlier state: a decay of 2 / 11.
        expected = torch.lerp(start[name], after[name], 9 / 11)
        torch.testing.assert_close(average, expected, rtol=1e-5, atol=1e-7)
        moved.append(not torch.equal(average, after[name]))
    assert sum(moved) > 0.9 * len(moved)
    kind = "backbone.body.network._bn1.running_mean"
    assert not torch.equal(after[f"average.module.{kind}"], start[f"model.{kind}"])
    assert int(after["model.backbone.body.network._bn1.num_batches_tracked"]) == 1


def test_checkpoints_and_users_get_the_average(in_one_go: Run) -> None:
    saved = load_checkpoint(in_one_go.last).weights
    for name, tensor in in_one_go.module.detector.state_dict().items():
        assert torch.equal(saved[name], tensor), name
    assert any(not torch.equal(t, saved[n]) for n, t in in_one_go.module.model.state_dict().items())


# --- a loss that is no number ---


def poisoned_batches() -> DataLoader:
    """Three good batches; the third holds a picture that is not finite."""

    def batch(*image_ids: int) -> tuple[list[Tensor], list[dict[str, Any]]]:
        targets = [{**target((4, 4, 40, 40)), "image_id": i} for i in image_ids]
        return pictures(*[(SIDE, SIDE)] * len(image_ids)), targets

    batches = [batch(0, 1), batch(2, 3), batch(14, 25), batch(4, 5)]
    batches[2][0][1][0, 5, 5] = math.nan
    return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]


def test_a_non_finite_loss_stops_before_its_step_and_names_the_images() -> None:
    module = DetectorModule(build(), NAMES, RECIPE)
    states: list[dict[str, Tensor]] = []

    class Keep(pl.Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            states.append(copy.deepcopy(module.state_dict()))

    trainer = quiet_trainer(max_epochs=1, callbacks=[Keep()])
    with pytest.raises(NonFiniteLoss) as error:
        trainer.fit(module, poisoned_batches())
    assert error.value.image_ids == [14, 25]
    assert math.isnan(sum(error.value.losses.values()))
    assert set(error.value.losses) == {"classification", "bbox_regression"}
    assert trainer.global_step == 2
    assert len(states) == 3, "the last one is from before the poisoned batch"
    kept = dict(module.model.named_parameters("model"))
    for name, tensor in {**kept, **module.average.state_dict(prefix="average.")}.items():
        assert torch.equal(tensor, states[-1][name]) and torch.isfinite(tensor).all(), name


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_are_clipped_in_every_precision(precision: str) -> None:
    torch.manual_seed(0)
    train = PicturesInMemory([(64, 64), (64, 64)])
    module = DetectorModule(build(), NAMES, RECIPE, DESCRIPTION.as_plain())
    trainer = quiet_trainer(max_epochs=1, gradient_clip_val=1e-3, precision=precision)
    trainer.fit(module, make_loader(train.with_transform(mirror_and_light), batch_size=2))
    gradients = [p.grad for p in module.model.parameters() if p.grad is not None]
    norm = torch.stack([g.norm() for g in gradients]).norm()
    assert norm == pytest.approx(1e-3, rel=1e-2)
    (optimizer,) = trainer.optimizers
    assert optimizer.defaults["fused"] is (True if precision == "32-true" else None)
    assert optimizer.defaults["foreach"] is None, "torch chooses the fastest"
