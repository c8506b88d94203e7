"""Train: build data, model and Lightning Trainer, run, report."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytorch_lightning as pl

from data.dataset import DataSplits
from data.source import DataSource, keep_decoded
from model.checkpoint import Checkpoint, DetectorDescription, load_checkpoint, refuse_to_resume
from model.efficient_retinanet import describe_parameters
from model.lightning_trainer import DetectorModule, Recipe
from model.network.retinanet import BatchedRetinaNet
from model.training.run_recorder import RunRecorder
from training.finish_run import finish_run
from training.fit import FitSettings, fit
from training.lost_images import LostImages
from training.low_map import LowMapDiagnosis
from training.pretrain_crops import CropPlan, pretrain_on_crops
from training.starting_point import load_start, new_detector
from utils.config import Config
from utils.console import say
from utils.gpu_check import make_guard
from utils.hardware import Machine, available_memory
from utils.lightning_setup import quieten_libraries
from utils.run_folder import CONFIG_FILE, create_run_folder, find_last, refuse_inside, write_json


def launch(config: Config) -> int:
    """Train as ``config`` says; the exit status.

    A new run, from a backbone or from the weights of ``config.load``; with ``config.resume`` the
    interrupted one goes on in its own folder. Raises UserError for whatever the user can put right.
    """
    quieten_libraries()
    machine = Machine.choose(config.device, config.precision)
    pl.seed_everything(config.seed, verbose=False)
    last = find_last(Path(config.resume)) if config.resume else None
    start = _starting_checkpoint(config, last)

    source, splits = _open_data(config, start)
    description, model = _detector(config, splits.class_names, source, start)
    if start and not last:
        load_start(model, start, splits.class_names)
    say("model", f"{description.model_name}: {describe_parameters(model)}")
    say("device", str(machine))

    run = last.parent if last else _new_run(config, description)
    # What "auto" chose is measured, and another measurement might choose otherwise.
    chosen = dataclasses.replace(config, precision=machine.precision)
    write_json(chosen.as_plain(), run / CONFIG_FILE)
    say("run", str(run))

    guard = make_guard(
        config.gpu, config.delay_time, config.high_temp, config.low_temp, config.max_pause
    )
    if start is None and not description.frozen_batch_norm:
        plan = _crop_plan(config, len(splits.train))
        pretrain_on_crops(model, splits.train, plan, run, machine, guard)
    elif start is None and not config.crop_pretraining.is_auto:
        say("note", "the backbone's weights are pretrained: --crop-pretraining has no effect")
    module = DetectorModule(
        model, description.class_names, _recipe(config, description), description.as_plain()
    )
    if config.compile:
        model.compile_network()
    watch = [LowMapDiagnosis(splits, config.score_threshold), LostImages()]
    callbacks = [*guard, *watch, RunRecorder(run, description)]
    fit(module, splits, _fit_settings(config, description), run, machine, callbacks, last)
    finish_run(
        run,
        splits,
        machine,
        guard,
        batch_size=config.batch_size,
        workers=config.workers,
        score_threshold=config.score_threshold,
        overfit=bool(config.overfit),
    )
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
    source = DataSource.choose(
        config.path,
        start.description.data if start and not config.path else None,
        checkpoint=start.path if start else "",
        on_bad_image=config.on_bad_image,
        images=config.demo_images,
        validation_fraction=config.validation_fraction,
        seed=config.seed,
    )
    splits = source.open_for_run(
        config.cache_folder,
        overfit=config.overfit,
        class_names=start.description.class_names if start else (),
        checkpoint=start.path if start else "",
        other_classes=not config.resume,
    )
    if config.cache:
        splits, outcome = keep_decoded(splits, available_memory(), config.workers)
        say("cache", outcome)
    return source, splits


def _detector(
    config: Config, class_names: tuple[str, ...], source: DataSource, start: Checkpoint | None
) -> tuple[DetectorDescription, BatchedRetinaNet]:
    """A detector of these classes; where there is a checkpoint, of its shape."""
    data = dataclasses.asdict(source)
    if start is None:
        description = DetectorDescription(
            model_name=config.of_new_detector("model"),
            class_names=class_names,
            image_size=config.of_new_detector("image_size"),
            anchor_scale=config.of_new_detector("anchor_scale"),
            trainable_layers=config.trainable_layers,
            data=data,
        )
        return new_detector(description, config.backbone_weights)
    old, layers = start.description, config.trainable_layers
    if layers is None:
        layers = old.trainable_layers
    description = dataclasses.replace(
        old,
        class_names=class_names,
        image_size=config.image_size or old.image_size,
        trainable_layers=layers,
        data=data,
    )
    return description, description.build()


def _new_run(config: Config, description: DetectorDescription) -> Path:
    output = Path(config.output or "runs")
    if description.data.get("path"):
        refuse_inside(output, Path(description.data["path"]), "the data set")
    return create_run_folder(output, config.name or description.model_name)


def _crop_plan(config: Config, num_images: int) -> CropPlan:
    return CropPlan(
        budget=config.crop_pretraining,
        detector_steps=config.epochs * math.ceil(num_images / config.batch_size),
        seed=config.seed,
        max_rotation=180.0 if config.quarter_turns else 20.0,
    )


def _recipe(config: Config, description: DetectorDescription) -> Recipe:
    pretrained = description.frozen_batch_norm
    return Recipe(
        learning_rate=config.learning_rate,
        backbone_factor=config.pretrained_backbone_factor if pretrained else 1.0,
        weight_decay=config.weight_decay,
        warmup_steps=config.warmup_steps,
        ema_decay=config.ema_decay,
        seed=config.seed,
    )


def _fit_settings(config: Config, description: DetectorDescription) -> FitSettings:
    return FitSettings(
        epochs=config.epochs,
        val_every=config.val_every,
        gradient_clip=config.gradient_clip,
        image_size=description.image_size,
        batch_size=config.batch_size,
        workers=config.workers,
        seed=config.seed,
        scale_jitter=config.scale_jitter,
        quarter_turns=config.quarter_turns,
        overfit=bool(config.overfit),
    )
