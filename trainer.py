"""Train: build data, model and Lightning Trainer, run, report."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.data import DataLoader

from data.augmentation import training_transform
from data.dataset import Dataset, DataSplits
from data.loader import make_loader
from data.source import DataSource, keep_decoded
from data.splits import VALIDATION_FRACTION
from model.checkpoint import (
    Checkpoint,
    DetectorDescription,
    WholeCheckpointIO,
    load_checkpoint,
    refuse_to_resume,
)
from model.efficient_retinanet import describe_parameters
from model.lightning_trainer import DetectorModule, Recipe
from model.network.backbone_weights import find_backbone_weights
from model.network.retinanet import BatchedRetinaNet
from model.training.crop_pretraining import fixed_budget
from model.training.run_recorder import RunRecorder
from training.finish_run import finish_run
from training.fit import fit
from training.lost_images import LostImages
from training.low_map import LowMapDiagnosis
from training.object_scale import choose_scale, choose_window
from training.pretrain_crops import pretrain_on_crops
from utils.commands import changed_flags, note_unused
from utils.config import NEW_MODEL, Config
from utils.console import say
from utils.gpu_check import make_guard
from utils.hardware import Machine, available_memory
from utils.lightning_setup import make_trainer, quieten_libraries
from utils.options import Budget
from utils.run_folder import (
    CONFIG_FILE,
    LAST,
    create_run_folder,
    find_last,
    refuse_inside,
    write_json,
)

LEAST_OVERFIT_STEPS = 25  # an epoch of --overfit repeats its few images until it has as many
LOG_EVERY = 5  # steps, for TensorBoard; a tiny epoch is logged whole


def launch(config: Config) -> int:
    """Train as ``config`` says; the exit status.

    A new run, from a backbone or from the weights of ``config.load``; with ``config.resume`` the
    interrupted one goes on in its own folder. Raises UserError for whatever the user can put right.
    """
    quieten_libraries()
    machine = Machine.choose(config.device, config.precision, config.cpu_kernels)
    pl.seed_everything(config.seed, verbose=False)
    last = find_last(Path(config.resume)) if config.resume else None
    start = _starting_checkpoint(config, last)

    source, splits = _open_data(config, start)
    data = dataclasses.asdict(source)
    if start:
        description, model = _loaded_detector(config, splits.class_names, data, start)
    else:
        description, model = _new_detector(config, splits.train, data)
    say("model", f"{description.model_name}: {describe_parameters(model)}")
    say("device", str(machine))

    run = last.parent if last else _new_run(config, description)
    # What "auto" chose is measured, and another measurement might choose otherwise.
    fraction = source.validation_fraction
    chosen = dataclasses.replace(
        config,
        path=config.path or source.path,
        precision=machine.precision,
        validation_fraction=fraction,
    )
    write_json(chosen.as_plain(), run / CONFIG_FILE)
    say("run", str(run))

    guard = make_guard(config.gpu, config.cooldown())
    if start is None:
        budget = _crop_budget(config, splits.train, description.pretrained)
        seed, turns = config.seed, config.quarter_turns
        pretrain_on_crops(model, splits.train, budget, run, machine, guard, seed, turns)
    if not description.pretrained and last is None:
        reason = "the backbone's weights are not pretrained"
        note_unused(config, reason, "pretrained_backbone_factor")
    recipe = _recipe(config, description.pretrained)
    module = DetectorModule(model, description.class_names, recipe, description.as_plain())
    if config.compile:
        model.compile_network()
    watch = [LowMapDiagnosis(splits, description.pretrained, config.score_threshold), LostImages()]
    callbacks = [*guard, *watch, RunRecorder(run, description)]
    trainer = _make_trainer(config, len(splits.train), run, machine, callbacks)
    on_gpu = machine.device.type == "cuda"
    train, validation = _make_loaders(config, splits, description.image_size, on_gpu)
    fit(trainer, module, train, validation, run, last)
    threshold, overfit = config.score_threshold, config.overfit > 0
    finish_run(run, splits, validation, machine, guard, threshold, overfit=overfit)
    return 0


def _starting_checkpoint(config: Config, last: Path | None) -> Checkpoint | None:
    """That of the run which goes on, or of ``config.load``; None for a new detector."""
    if last is None and not config.load:
        return None
    start = load_checkpoint(last or Path(config.load or ""), "--resume" if last else "--load")
    if last:
        refuse_to_resume(last, config.epochs)
    start.refuse_contradictions(
        model_name=config.model,
        anchor_scale=config.anchor_scale,
        image_size=config.image_size if last else None,  # a new run may scale images differently
    )
    return start


def _open_data(config: Config, start: Checkpoint | None) -> tuple[DataSource, DataSplits]:
    """The data set of ``-p``, else the one a checkpoint remembers, else drawn cards."""
    split_flags: list[str] = []
    if start and (config.resume or not config.path):
        source = DataSource.remembered(
            start.description.data, start.origin, path=config.path, on_bad_image=config.on_bad_image
        )
    else:
        split_flags = changed_flags(config, "validation_fraction")
        source = DataSource(
            str(Path(config.path).resolve()) if config.path else None,
            images=config.demo_images,
            validation_fraction=config.validation_fraction or VALIDATION_FRACTION,
            seed=config.seed,
            skip_bad_images=config.on_bad_image == "skip",
        )
    if source.path and not config.path:
        note_unused(config, "no images are drawn", "cache_folder")
    splits = source.open_for_run(
        config.cache_folder,
        overfit=config.overfit,
        class_names=start.description.class_names if start else (),
        checkpoint=start.path if start else "",
        other_classes=not config.resume,
        split_flags=split_flags,
    )
    if config.cache:
        splits, outcome = keep_decoded(splits, available_memory(), config.workers)
        say("cache", outcome)
    return source, splits


def _new_detector(
    config: Config, train: Dataset, data: dict[str, Any]
) -> tuple[DetectorDescription, BatchedRetinaNet]:
    """Layers are frozen only where the backbone's weights are pretrained."""
    name = config.model or NEW_MODEL
    weights = find_backbone_weights(name, config.backbone_weights)
    say("weights", f"the backbone's are from {weights.origin}")
    normalization = weights.normalization_for(name)
    scale = choose_scale(train, name, config.image_size, config.anchor_scale)
    say("scale", str(scale))
    description = DetectorDescription(
        model_name=name,
        class_names=train.class_names,
        image_size=scale.image_size,
        anchor_scale=scale.anchor_scale,
        trainable_layers=config.trainable_layers if weights.pretrained else None,
        image_mean=normalization.mean,
        image_std=normalization.std,
        backbone_origin=weights.origin,
        data=data,
    )
    if not weights.pretrained:
        note_unused(config, "the backbone's weights are not pretrained", "trainable_layers")
    return description, description.build(backbone_weights=weights)


def _loaded_detector(
    config: Config, class_names: tuple[str, ...], data: dict[str, Any], start: Checkpoint
) -> tuple[DetectorDescription, BatchedRetinaNet]:
    """The checkpoint's, with these classes; a run that goes on loads its weights later."""
    old = start.description
    # A run that goes on has the optimizer of the layers that its checkpoint names.
    layers = None if config.resume else config.trainable_layers
    description = dataclasses.replace(
        old,
        class_names=class_names,
        image_size=config.image_size or old.image_size,
        trainable_layers=old.trainable_layers if layers is None else layers,
        data=data,
    )
    model = description.build()
    if config.resume:
        return description, model
    skip = None
    if old.class_names != class_names:
        skip = "classification_head.cls_logits."
        names = ", ".join(old.class_names)
        say(
            "note",
            f"the checkpoint's classes are {names}: the layer that names classes starts anew",
        )
    start.load_into(model, skip=skip)
    say("weights", f"from {start.path}, epoch {start.epoch}")
    return description, model


def _new_run(config: Config, description: DetectorDescription) -> Path:
    output = Path(config.output or "runs")
    if description.data.get("path"):
        refuse_inside(output, Path(description.data["path"]), "the data set")
    return create_run_folder(output, config.name or description.model_name)


def _crop_budget(config: Config, train: Dataset, pretrained: bool) -> Budget:
    steps = config.epochs * math.ceil(len(train) / config.batch_size)
    crops = train.label_counts().total()
    return fixed_budget(config.crop_pretraining, crops, steps, pretrained=pretrained)


def _recipe(config: Config, pretrained: bool) -> Recipe:
    return Recipe(
        learning_rate=config.learning_rate,
        backbone_factor=config.pretrained_backbone_factor if pretrained else 1.0,
        weight_decay=config.weight_decay,
        warmup_steps=config.warmup_steps,
        ema_decay=config.ema_decay,
        seed=config.seed,
    )


def _make_trainer(
    config: Config, num_images: int, run: Path, machine: Machine, callbacks: list[pl.Callback]
) -> pl.Trainer:
    """It logs, and writes ``last.pth`` after every epoch, into the folder ``run``."""
    last = ModelCheckpoint(
        dirpath=run,
        filename=Path(LAST).stem,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    last.FILE_EXTENSION = Path(LAST).suffix
    return make_trainer(
        machine,
        [*callbacks, last],
        max_epochs=config.epochs,
        check_val_every_n_epoch=min(config.val_every, config.epochs),
        gradient_clip_val=config.gradient_clip or None,
        num_sanity_val_steps=0,
        logger=TensorBoardLogger(run, name="", version=""),
        log_every_n_steps=min(LOG_EVERY, math.ceil(num_images / config.batch_size)),
        enable_checkpointing=True,
        plugins=[WholeCheckpointIO()],
    )


def _make_loaders(
    config: Config, splits: DataSplits, image_size: int, pin_memory: bool
) -> tuple[DataLoader, DataLoader]:
    """Of augmented training images, shuffled, and of validation images."""
    train = splits.train
    if config.overfit:
        repeats = -(-LEAST_OVERFIT_STEPS * config.batch_size // len(train))
        train = train.subset([*range(len(train))] * repeats)
    transform = training_transform(
        train,
        image_size,
        scale_jitter=config.scale_jitter,
        quarter_turns=config.quarter_turns,
        window=0 if config.overfit else choose_window(config.window, image_size),
        copy_paste=0 if config.overfit else config.copy_paste,
        seed=config.seed,
    )
    make = partial(
        make_loader,
        batch_size=config.batch_size,
        workers=config.workers,
        seed=config.seed,
        pin_memory=pin_memory,
    )
    return make(train.with_transform(transform), shuffle=True), make(splits.validation)
