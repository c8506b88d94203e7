"""Training and validation: schedule, average, resuming, and a mAP that batches cannot move."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from data.dataset import Annotation, Dataset, Target
from data.loader import make_loader
from evaluation.metrics.coco import CocoEvaluation
from evaluation.metrics.results import ImageResult
from model.checkpoint import DetectorDescription, WholeCheckpointIO, load_checkpoint
from model.efficient_retinanet import get_efficient_retinanet
from model.lightning_trainer import (
    DetectorModule,
    NonFiniteLoss,
    Timer,
)
from model.network.backbone_weights import BackboneWeights
from model.training.recipe import Recipe, parameter_groups, warmed_up_average, warmup_cosine
from tests.small_models import SIDE, build, with_varied_outputs

NAMES = ("ace", "king", "queen", "jack", "ten", "nine")
RECIPE = Recipe(learning_rate=1e-3, warmup_steps=2, seed=5)


class PicturesInMemory(Dataset):
    """Noise of given sizes with given objects; nothing is read from a disk."""

    def __init__(self, sizes: Sequence[tuple[int, int]]) -> None:
        random = np.random.default_rng(0)
        self.pixels = [random.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in sizes]
        self.plant([[((4, 6, w - 8, h - 9), 1 + i % 3)] for i, (h, w) in enumerate(sizes)])

    def plant(self, objects: Sequence[Sequence[tuple[Sequence[float], int]]]) -> None:
        """For each picture its boxes with their labels."""
        annotations = [
            Annotation(
                image_path=Path(f"{row}.png"),
                boxes=np.array([box for box, _ in things], dtype=np.float32).reshape(-1, 4),
                names=tuple(NAMES[label - 1] for _, label in things),
                difficult=np.zeros(len(things), dtype=bool),
            )
            for row, things in enumerate(objects)
        ]
        super().__init__(annotations, NAMES)
        drawn = [torch.from_numpy(rows).permute(2, 0, 1) for rows in self.pixels]
        self.cache = SimpleNamespace(pixels=lambda path, size: drawn[int(path.stem)])


def mirror_and_light(image: Tensor, target: Target) -> tuple[Tensor, Target]:
    """A random transform."""
    change = v2.Compose([v2.RandomHorizontalFlip(), v2.ColorJitter(0.3, 0.3)])
    image, target = change(image, target)
    return image.as_subclass(Tensor), target


def quiet_trainer(**options: Any) -> pl.Trainer:
    return pl.Trainer(
        **{
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            **options,
        }
    )


# --- the recipe ---


def test_the_rate_rises_linearly_to_its_peak_and_falls_as_a_cosine_to_zero() -> None:
    factors = [warmup_cosine(step, 4, 24) for step in range(25)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[4:] == sorted(factors[4:], reverse=True)
    assert factors[14] == pytest.approx(0.5)
    assert factors[9] == pytest.approx(0.5 + 0.5 * math.cos(math.pi / 4))
    assert factors[24] == pytest.approx(0)
    assert warmup_cosine(99, 4, 24) == pytest.approx(0), "past the end it stays there"
    assert warmup_cosine(0, 0, 1) == 1


def test_every_trainable_parameter_is_moved_once_and_no_bias_or_norm_decays() -> None:
    recipe = Recipe(learning_rate=1e-3, backbone_factor=0.1, weight_decay=0.05)
    state = build().backbone.body.network.state_dict()
    model = get_efficient_retinanet(
        7,
        trainable_backbone_layers=3,
        backbone_weights=BackboneWeights(state, "a test"),
        freeze_batch_norm=False,
    )
    groups = parameter_groups(model, recipe)
    listed = [id(p) for group in groups for p in group["params"]]
    trainable = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    assert len(listed) == len(set(listed))
    assert set(listed) == set(trainable)
    for group in groups:
        for parameter in group["params"]:
            name = trainable[id(parameter)]
            slow = name.startswith("backbone.body.")
            assert group["lr"] == pytest.approx(1e-4 if slow else 1e-3), name
            single = name.endswith("bias") or "_bn" in name
            assert group["weight_decay"] == (0.0 if single else 0.05), name
    assert groups[0]["lr"] == 1e-3, "the rate that is shown is the peak one"


@pytest.mark.parametrize(("steps", "keep"), [(1, 2 / 11), (8, 0.5), (100_000, 0.998)])
def test_the_decay_of_the_average_warms_up(steps: int, keep: float) -> None:
    average, current = [torch.zeros(3), torch.ones(2)], [torch.ones(3), torch.ones(2)]
    warmed_up_average(0.998)(average, current, torch.tensor(steps))
    torch.testing.assert_close(average[0], torch.full((3,), 1 - keep))
    torch.testing.assert_close(average[1], torch.ones(2))


def test_whole_numbers_are_copied_and_not_averaged() -> None:
    average = [torch.tensor(10)]
    warmed_up_average(0.998)(average, [torch.tensor(21)], torch.tensor(50))
    assert average[0].item() == 21


def test_the_first_batch_counts_for_the_speed_only_if_it_is_alone() -> None:
    timer = Timer()
    assert math.isnan(timer.rate)
    timer.batches.append((4, 8.0))
    assert timer.rate == 0.5
    timer.batches += [(4, 1.0), (2, 0.5)]
    assert timer.rate == 4


# --- three epochs, in one go and interrupted ---


class Interrupted(Exception):
    pass


@dataclass
class Watch(pl.Callback):
    """Notes what the tests ask about, and interrupts the run before an epoch."""

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
    """What a run leaves behind."""

    watch: Watch
    module: DetectorModule
    last: Path


DESCRIPTION = DetectorDescription("efficientnet-b0", NAMES, SIDE, anchor_scale=0.25)


def run_epochs(
    folder: Path, *, stop_before: int | None = None, resume: Path | None = None, luck: int = 0
) -> Run:
    torch.manual_seed(7)
    model = build().eval()
    torch.manual_seed(luck)
    train = PicturesInMemory([(48, 64), (64, 64), (70, 50), (90, 128), (40, 40), (64, 32)])
    checkpoint = ModelCheckpoint(
        dirpath=folder,
        filename="last",
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
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
    try:
        trainer.fit(
            module,
            loader,
            make_loader(train.subset([0, 1]), batch_size=2),
            ckpt_path=str(resume) if resume else None,
            weights_only=True,
        )
    except Interrupted:
        assert stop_before is not None
    return Run(watch, module, folder / "last.ckpt")


@pytest.fixture(scope="module")
def in_one_go(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_epochs(tmp_path_factory.mktemp("in_one_go"))


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_epochs(tmp_path_factory.mktemp("interrupted"), stop_before=2)


def assert_equal_to_the_bit(one: Any, other: Any, path: str = "") -> None:
    assert type(one) is type(other), path
    if isinstance(one, Tensor):
        assert torch.equal(one, other), path
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            assert_equal_to_the_bit(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), path
        for number, pair in enumerate(zip(one, other, strict=True)):
            assert_equal_to_the_bit(*pair, f"{path}[{number}]")
    else:
        assert one == other, path


def test_a_resumed_run_ends_with_the_bits_of_an_uninterrupted_one(
    in_one_go: Run, interrupted: Run, tmp_path: Path
) -> None:
    resumed = run_epochs(tmp_path, resume=interrupted.last, luck=99)
    assert len(resumed.watch.modes) == 2, "one epoch was left"
    one = torch.load(in_one_go.last, weights_only=True)
    other = torch.load(resumed.last, weights_only=True)
    for part in ("state_dict", "weights", "optimizer_states", "lr_schedulers", "global_step"):
        assert_equal_to_the_bit(one[part], other[part], part)
    before = torch.load(interrupted.last, weights_only=True)["weights"]
    assert any(not torch.equal(t, before[n]) for n, t in other["weights"].items())


def test_last_pth_tells_the_epochs_that_it_has_seen(in_one_go: Run, interrupted: Run) -> None:
    assert load_checkpoint(in_one_go.last).epoch == 3
    assert load_checkpoint(interrupted.last).epoch == 2


def test_a_model_handed_over_in_evaluation_mode_trains_in_training_mode(in_one_go: Run) -> None:
    assert in_one_go.watch.modes == [(True, False)] * 6


def test_a_resumed_run_trains_in_training_mode(interrupted: Run, tmp_path: Path) -> None:
    resumed = run_epochs(tmp_path, resume=interrupted.last)
    assert resumed.watch.modes == [(True, False)] * 2


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
        boxes, labels = torch.tensor([[4.0, 4.0, 40.0, 40.0]]), torch.tensor([1])
        targets = [{"boxes": boxes, "labels": labels, "image_id": i} for i in image_ids]
        return [torch.rand(3, SIDE, SIDE) for _ in image_ids], targets

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
    for name, parameter in module.model.named_parameters():
        assert torch.equal(parameter, states[-1][f"model.{name}"]), name
        assert torch.isfinite(parameter).all(), name
    for name, tensor in module.detector.state_dict().items():
        assert torch.equal(tensor, states[-1][f"average.module.{name}"]), name
        assert torch.isfinite(tensor).all(), name


# --- validation ---


@pytest.fixture(scope="module")
def alive() -> nn.Module:
    torch.manual_seed(1)
    return with_varied_outputs(build(score_thresh=0.01), spread=0.3)


@pytest.fixture(scope="module")
def planted(alive: nn.Module) -> tuple[PicturesInMemory, float]:
    """Pictures with some of the model's own detections as their objects, and the mAP of that.

    The mAP comes from the model's own forward, one picture at a time.
    """
    sizes = [(48, 64), (64, 64), (64, 30), (90, 128), (40, 40), (48, 64), (64, 64), (64, 30)]
    data = PicturesInMemory(sizes)
    with torch.no_grad():
        found = [alive([data[row][0].float() / 255])[0] for row in range(len(sizes))]
    objects = []
    for detection in found:
        has_area = (detection["boxes"][:, 2:] > detection["boxes"][:, :2]).all(dim=1)
        rows = (has_area & (detection["labels"] > 0)).nonzero().flatten().tolist()[1:12:4]
        own = [(detection["boxes"][r].tolist(), int(detection["labels"][r])) for r in rows]
        objects.append([*own, ((1, 1, 9, 30), 1)])
    objects[4] = []
    data.plant(objects)
    results = [
        ImageResult.from_tensors(data[row][1], detection) for row, detection in enumerate(found)
    ]
    return data, CocoEvaluation(results, NAMES).metrics.map


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (3, 0), (8, 0), (3, 2)])
def test_the_map_of_a_validation_is_the_same_for_every_batch_size_and_number_of_workers(
    batch_size: int,
    workers: int,
    alive: nn.Module,
    planted: tuple[PicturesInMemory, float],
) -> None:
    data, expected = planted
    assert 0.02 < expected < 0.98
    module = DetectorModule(copy.deepcopy(alive), NAMES)
    loader = make_loader(data, batch_size, workers=workers)
    (values,) = quiet_trainer().validate(module, loader, verbose=False)
    assert values["mAP"] == pytest.approx(expected, abs=1e-6)
    assert module.metrics is not None
    assert sum(module.metrics.objects.values()) == 4 * 7
    assert module.images_per_second > 0


def test_the_validation_loss_is_the_same_for_every_batch_size(
    alive: nn.Module, planted: tuple[PicturesInMemory, float]
) -> None:
    losses = []
    for batch_size in (1, 3):
        module = DetectorModule(copy.deepcopy(alive), NAMES)
        loader = make_loader(planted[0], batch_size)
        losses.append(quiet_trainer().validate(module, loader, verbose=False)[0]["val_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_validation_without_losses_has_the_same_map(
    alive: nn.Module, planted: tuple[PicturesInMemory, float]
) -> None:
    data, expected = planted
    module = DetectorModule(copy.deepcopy(alive), NAMES, validation_loss=False)
    (values,) = quiet_trainer().validate(module, make_loader(data, 3), verbose=False)
    assert values["mAP"] == pytest.approx(expected, abs=1e-6)
    assert "val_loss" not in values


def test_validation_sees_the_average_alone(
    alive: nn.Module, planted: tuple[PicturesInMemory, float]
) -> None:
    data, _ = planted
    module = DetectorModule(copy.deepcopy(alive), NAMES)
    with torch.no_grad():
        for parameter in module.model.parameters():
            parameter.fill_(math.nan)
    (values,) = quiet_trainer().validate(module, make_loader(data.subset([0]), 1), verbose=False)
    assert math.isfinite(values["val_loss"])


def test_two_validations_do_not_add_up(
    alive: nn.Module, planted: tuple[PicturesInMemory, float]
) -> None:
    module = DetectorModule(copy.deepcopy(alive), NAMES)
    counts = []
    for rows in ([0, 1], [2]):
        loader = make_loader(planted[0].subset(rows), 2)
        quiet_trainer().validate(module, loader, verbose=False)
        assert module.metrics is not None
        counts.append(sum(module.metrics.objects.values()))
    assert counts == [8, 4]


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
    assert optimizer.defaults["foreach"] is None, "torch takes the fastest that there is"
