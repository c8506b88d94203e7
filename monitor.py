"""Monitor a checkpoint: its COCO numbers, its speed, and its detections beside ground truth."""

from __future__ import annotations

import math
from pathlib import Path

import pytorch_lightning as pl

from data.dataset import DataSplits, make_loader
from data.default import DataSource, describe_splits, match_classes
from model.checkpoint import Checkpoint, load_checkpoint
from model.efficient_retinanet import describe_parameters
from model.lightning_trainer import DetectorModule
from pictures import save_detections
from utils.config import Config
from utils.console import is_terminal, progress_bar, say, show_table
from utils.failures import readable_failures
from utils.gpu_check import make_guard
from utils.hardware import Machine
from utils.metrics import SUMMARY_ROWS, CocoMetrics, show
from utils.progress import progress_bars
from utils.quiet import quieten_libraries
from utils.run_folder import DETECTIONS, make_folder, write_json

METRICS = "metrics.json"


def launch(config: Config) -> CocoMetrics:
    """Evaluate the checkpoint ``config.load`` on the validation images and show the result.

    The data set is ``config.path`` or the one that the checkpoint remembers. Writes a picture and
    ``metrics.json`` into ``config.output``, by default a folder beside the checkpoint. Raises
    UserError for a file that is no checkpoint, data that is not there and flags that contradict.
    """
    quieten_libraries()
    machine = Machine.choose(config.device, config.precision)
    checkpoint = load_checkpoint(Path(config.load or ""))
    checkpoint.refuse_contradictions(
        model_name=config.model, image_size=config.image_size, anchor_scale=config.anchor_scale
    )
    beside = checkpoint.path.parent / f"monitor-{checkpoint.path.stem}"
    folder = make_folder(Path(config.output) if config.output else beside)
    splits = _open_data(config, checkpoint)
    model = checkpoint.build_model()
    say(
        "model",
        f"{checkpoint.description.model_name}: {describe_parameters(model)}, "
        f"epoch {checkpoint.epoch}",
    )
    say("device", str(machine))

    module = DetectorModule(model, checkpoint.description.class_names, validation_loss=False)
    guard = make_guard(
        config.gpu, config.delay_time, config.high_temp, config.low_temp, config.max_pause, say
    )
    trainer = pl.Trainer(
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=is_terminal(),
        callbacks=[*progress_bars(), *guard],
        **machine.trainer_options(),
    )
    loader = make_loader(splits.validation, config.batch_size, workers=config.workers)
    with readable_failures():
        trainer.validate(module, loader, verbose=False)
    assert module.metrics is not None
    _show(module.metrics)
    say(
        "speed",
        f"{module.images_per_second:.1f} it/s (images a second, model and "
        f"post-processing, in batches of {config.batch_size})",
    )
    _write(folder, checkpoint, module)
    save_detections(
        module.detector.to(machine.device),
        splits.validation,
        machine,
        folder / DETECTIONS,
        threshold=config.score_threshold,
    )
    say("saved", f"{folder / DETECTIONS}, {METRICS}")
    return module.metrics


def _open_data(config: Config, checkpoint: Checkpoint) -> DataSplits:
    """The data of ``-p`` or that the checkpoint remembers, labelled by the checkpoint's classes."""
    remembered = checkpoint.description.data
    if config.path:
        source = DataSource(**{**remembered, "path": str(Path(config.path).resolve())})
    else:
        source = DataSource.remembered(remembered, str(checkpoint.path))
        say("note", "-p is not given: the data set that the checkpoint remembers is taken")
    with progress_bar("drawing") as progress:
        splits = source.open(config.cache, progress, overfit=config.overfit)
    names = checkpoint.description.class_names
    splits = match_classes(splits, names, f"the checkpoint {checkpoint.path}")
    for label, text in describe_splits(splits, source):
        say(label, text)
    return splits


def _show(metrics: CocoMetrics) -> None:
    show_table(
        "COCO summary",
        ("metric", "IoU", "area", "detections", "value"),
        [
            (kind, iou, area, str(detections), show(value))
            for (kind, iou, area, detections), value in zip(
                SUMMARY_ROWS, metrics.summary, strict=True
            )
        ],
    )
    rows = [
        (name, str(metrics.objects[name]), *(show(value) for value in values))
        for name, values in metrics.class_ap.items()
    ]
    overall = (metrics.map, metrics.map_50, metrics.map_75)
    total = ("all", str(sum(metrics.objects.values())), *(show(value) for value in overall))
    show_table("Classes", ("class", "objects", "mAP", "mAP50", "mAP75"), [*rows, total])


def _write(folder: Path, checkpoint: Checkpoint, module: DetectorModule) -> None:
    metrics = module.metrics
    assert metrics is not None
    summary = {
        f"{kind} IoU={iou} area={area} maxDets={detections}": _or_none(value)
        for (kind, iou, area, detections), value in zip(SUMMARY_ROWS, metrics.summary, strict=True)
    }
    classes = {
        name: dict(zip(("mAP", "mAP50", "mAP75"), map(_or_none, values), strict=True))
        | {"objects": metrics.objects[name]}
        for name, values in metrics.class_ap.items()
    }
    content = {
        "checkpoint": str(checkpoint.path),
        "epoch": checkpoint.epoch,
        "coco": summary,
        "classes": classes,
        "images_per_second": module.images_per_second,
    }
    write_json(content, folder / METRICS)


def _or_none(value: float) -> float | None:
    """JSON has no nan."""
    return None if math.isnan(value) else value
