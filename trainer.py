"""Train: build data, model and Lightning Trainer, run, report."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.data import DataLoader

from data.augmentation import TrainingTransform, training_canvas
from data.dataset import Dataset, DataSplits
from data.loader import make_loader
from data.source import DataSource, keep_decoded
from evaluation.run_pictures import save_curves
from model.checkpoint import (
    Checkpoint,
    DetectorDescription,
    WholeCheckpointIO,
    load_checkpoint,
    refuse_to_resume,
)
from model.efficient_retinanet import describe_parameters, get_efficient_retinanet
from model.lightning_trainer import DetectorModule, NonFiniteLoss, Recipe
from model.network.backbone_weights import find_backbone_weights
from model.network.retinanet import BatchedRetinaNet
from model.training.run_recorder import RunRecorder
from training.finish_run import report_run
from training.lost_images import LostImages
from training.low_map import LowMapDiagnosis
from training.pretrain_crops import pretrain_on_crops
from utils.config import Config
from utils.console import is_terminal, say
from utils.errors import UserError
from utils.gpu_check import make_guard
from utils.hardware import Machine, available_memory
from utils.lightning_setup import progress_bars, quieten_libraries, readable_failures
from utils.run_folder import (
    CONFIG_FILE,
    CURVES,
    LAST,
    METRICS_FILE,
    create_run_folder,
    find_last,
    refuse_inside,
    write_json,
)

LOG_EVERY = 5  # steps, for TensorBoard; a tiny epoch is logged whole
LEAST_OVERFIT_STEPS = 25  # an epoch of --overfit repeats its few images until it has as many


def launch(config: Config) -> Path:
    """Train as ``config`` says and return the run's folder.

    A new run, from a backbone or from the weights of ``config.load``; with ``config.resume`` the
    interrupted one goes on in its own folder. Raises UserError for whatever the user can put right.
    """
    quieten_libraries()
    machine = Machine.choose(config.device, config.precision)
    pl.seed_everything(config.seed, verbose=False)
    last = find_last(Path(config.resume)) if config.resume else None
    start = None
    if last:
        start = load_checkpoint(last, "--resume")
        refuse_to_resume(last, config.epochs)
    elif config.load:
        start = load_checkpoint(Path(config.load))

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
        other_classes=not last,
    )
    if config.cache:
        splits, kept = keep_decoded(splits, available_memory(), config.workers)
        say("cache", kept)
    description, model = _build_model(config, splits.class_names, source, start)
    if start and not last:
        _load_weights(model, start, splits.class_names)
    say("model", f"{description.model_name}: {describe_parameters(model)}")
    say("device", str(machine))

    run = last.parent if last else _new_run(config, description)
    # What "auto" chose is measured, and another measurement might choose otherwise.
    computed = dataclasses.replace(config, precision=machine.precision)
    write_json(dataclasses.asdict(computed), run / CONFIG_FILE)
    say("run", str(run))
    guard = make_guard(
        config.gpu, config.delay_time, config.high_temp, config.low_temp, config.max_pause
    )
    watch = [LowMapDiagnosis(splits, say, config.score_threshold), LostImages(say)]
    steps = -(-len(splits.train) // config.batch_size)
    trainer = _make_trainer(config, run, description, machine, [*guard, *watch], steps)
    if start is None and not description.frozen_batch_norm:
        pretrain_on_crops(config, model, splits.train, run, machine, guard)
    _fit(config, trainer, model, splits, description, run, last)
    report_run(config, run, splits, machine, guard)
    return run


def _build_model(
    config: Config, class_names: tuple[str, ...], source: DataSource, start: Checkpoint | None
) -> tuple[DetectorDescription, BatchedRetinaNet]:
    """A model for these classes; of a checkpoint's shape where there is one."""
    data = dataclasses.asdict(source)
    if start:
        start.refuse_contradictions(model_name=config.model, anchor_scale=config.anchor_scale)
        description = dataclasses.replace(
            start.description,
            class_names=class_names,
            image_size=config.image_size or start.description.image_size,
            trainable_layers=(
                start.description.trainable_layers
                if config.trainable_layers is None
                else config.trainable_layers
            ),
            data=data,
        )
        return description, description.build()
    name = config.of_new_detector("model")
    weights = find_backbone_weights(name, config.backbone_weights)
    say("weights", f"the backbone's are from {weights.origin}")
    description = DetectorDescription(
        model_name=name,
        class_names=class_names,
        image_size=config.of_new_detector("image_size"),
        anchor_scale=config.of_new_detector("anchor_scale"),
        frozen_batch_norm=weights.pretrained,
        trainable_layers=config.trainable_layers if weights.pretrained else None,
        data=data,
    )
    model = get_efficient_retinanet(
        num_classes=len(class_names) + 1,
        efficientnet_model_name=name,
        trainable_backbone_layers=config.trainable_layers,
        backbone_weights=weights,
        image_size=description.image_size,
        anchor_scale=description.anchor_scale,
    )
    return description, model


def _load_weights(model: BatchedRetinaNet, start: Checkpoint, class_names: tuple[str, ...]) -> None:
    """Load a checkpoint's weights; the class layer only where the classes are the same."""
    weights = dict(start.weights)
    if start.description.class_names != class_names:
        for name in [n for n in weights if "classification_head.cls_logits." in n]:
            del weights[name]
        say(
            "note",
            f"the checkpoint's classes are {', '.join(start.description.class_names)}: "
            "the layer that names classes starts anew",
        )
    try:
        model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise UserError(
            f"--load {start.path}: its weights do not fit the {start.description.model_name} it "
            f"describes ({str(error).splitlines()[-1].strip()}); the file is damaged."
        ) from error
    say("weights", f"from {start.path}, epoch {start.epoch}")


def _new_run(config: Config, description: DetectorDescription) -> Path:
    output = Path(config.output or "runs")
    if description.data.get("path"):
        refuse_inside(output, Path(description.data["path"]), "the data set")
    return create_run_folder(output, config.name or description.model_name)


def _make_trainer(
    config: Config,
    run: Path,
    description: DetectorDescription,
    machine: Machine,
    watchers: list[pl.Callback],
    steps_per_epoch: int,
) -> pl.Trainer:
    last = ModelCheckpoint(
        dirpath=run,
        filename=Path(LAST).stem,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    last.FILE_EXTENSION = Path(LAST).suffix
    return pl.Trainer(
        max_epochs=config.epochs,
        check_val_every_n_epoch=min(config.val_every, config.epochs),
        gradient_clip_val=config.gradient_clip or None,
        num_sanity_val_steps=0,
        logger=TensorBoardLogger(run, name="", version=""),
        log_every_n_steps=min(LOG_EVERY, steps_per_epoch),
        enable_model_summary=False,
        enable_progress_bar=is_terminal(),
        callbacks=[*progress_bars(), *watchers, RunRecorder(run, description, say), last],
        plugins=[WholeCheckpointIO()],
        **machine.trainer_options(),
    )


def _fit(
    config: Config,
    trainer: pl.Trainer,
    model: BatchedRetinaNet,
    splits: DataSplits,
    description: DetectorDescription,
    run: Path,
    last: Path | None,
) -> None:
    module = DetectorModule(
        model, description.class_names, _recipe(config, description), description.as_plain()
    )
    if config.compile:
        model.compile_network()
    pin_memory = trainer.strategy.root_device.type == "cuda"
    train = _enough_for_an_epoch(splits.train, config)
    loaders = _loaders(config, train, splits.validation, description.image_size, pin_memory)
    try:
        with readable_failures():
            trainer.fit(
                module,
                *loaders,
                ckpt_path=str(last) if last else None,
                weights_only=True,
            )
    except NonFiniteLoss as error:
        files = ", ".join(str(train.path(i)) for i in error.image_ids)
        losses = ", ".join(f"{name} {value}" for name, value in error.losses.items())
        raise UserError(
            f"the loss is no longer finite ({losses}) in epoch {trainer.current_epoch + 1}, on the "
            f"images {files}; the checkpoints of earlier epochs are kept. Give a lower "
            f"--learning-rate than {config.learning_rate:g}, or --precision fp32."
        ) from error
    except KeyboardInterrupt:
        hint = "no epoch was whole yet: start again with -t True"
        if (run / LAST).is_file():
            hint = f"whole epochs are saved: go on with python main.py --resume {run}"
            save_curves(run / METRICS_FILE, run / CURVES)
        say("stopped", f"in epoch {min(trainer.current_epoch + 1, config.epochs)}; {hint}")
        raise


def _enough_for_an_epoch(train: Dataset, config: Config) -> Dataset:
    if not config.overfit:
        return train
    repeats = -(-LEAST_OVERFIT_STEPS * config.batch_size // len(train))
    return train.subset([*range(len(train))] * repeats)


def _loaders(
    config: Config, train: Dataset, validation: Dataset, image_size: int, pin_memory: bool
) -> tuple[DataLoader, DataLoader]:
    """Of augmented training images and of validation images."""
    canvas = training_canvas(
        (annotation.size for annotation in train.annotations),
        image_size,
        square=config.quarter_turns,
    )
    transform = TrainingTransform(
        canvas, scale_jitter=config.scale_jitter, quarter_turns=config.quarter_turns
    )
    make = partial(
        make_loader,
        batch_size=config.batch_size,
        workers=config.workers,
        seed=config.seed,
        pin_memory=pin_memory,
    )
    return make(train.with_transform(transform), shuffle=True), make(validation)


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
