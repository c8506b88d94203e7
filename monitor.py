"""Monitor a checkpoint: its numbers, its speed, and a report on what it can and cannot do."""

from __future__ import annotations

from pathlib import Path

from data.loader import make_loader
from data.source import DataSource
from evaluation.console_report import say_findings, say_metrics, say_threshold
from evaluation.detector_metrics import detector_metrics
from evaluation.measure import measure
from evaluation.metrics.pycocotools_reference import choose_metrics
from evaluation.write_report import report_folder, write_report
from model.checkpoint import Checkpoint, load_checkpoint
from model.efficient_retinanet import describe_parameters
from training.lost_images import LostImages
from utils.commands import note_unused
from utils.config import Config
from utils.console import say
from utils.gpu_check import make_guard
from utils.hardware import Machine
from utils.lightning_setup import quieten_libraries, readable_failures
from utils.run_folder import DETECTIONS, MONITOR_METRICS, REPORT, make_folder, refuse_inside


def launch(config: Config) -> int:
    """Measure the checkpoint ``config.load`` on the validation images; the exit status.

    Writes the report into ``config.output``, by default a folder beside the checkpoint. Raises
    UserError for a file that is no checkpoint, data that does not exist, flags that contradict, and
    numbers that differ from pycocotools'.
    """
    quieten_libraries()
    machine = Machine.choose(config.device, config.precision, config.cpu_kernels)
    checkpoint = load_checkpoint(Path(config.load or ""))
    description = checkpoint.description
    checkpoint.refuse_contradictions(
        model_name=config.model, image_size=config.image_size, anchor_scale=config.anchor_scale
    )
    source = DataSource.remembered(
        description.data, checkpoint.origin, path=config.path, on_bad_image=config.on_bad_image
    )
    if not config.path:
        say("note", "-p is not given: using the data set that the checkpoint remembers")
        if source.path:
            note_unused(config, "no images are drawn", "cache_folder")
    splits = source.open_for_run(
        config.cache_folder,
        overfit=config.overfit,
        class_names=description.class_names,
        checkpoint=checkpoint.path,
    )
    folder = make_folder(_output_folder(config, checkpoint))
    model = checkpoint.build_model()
    name = description.model_name
    say("model", f"{name}: {describe_parameters(model)}, epoch {checkpoint.epoch}")
    say("device", str(machine))

    guard = make_guard(config.gpu, config.cooldown())
    loader = make_loader(splits.validation, config.batch_size, workers=config.workers)
    module = measure(model, loader, machine, [*guard, LostImages()])
    coco = choose_metrics(module.evaluation, config.verify_metrics)
    threshold = checkpoint.threshold(config.score_threshold)
    metrics = detector_metrics(module.evaluation, threshold, coco)
    with readable_failures():
        findings = write_report(folder, checkpoint, splits, module, metrics, machine)
    say_metrics(metrics)
    say(
        "speed",
        f"{module.images_per_second:.1f} it/s (images per second, model and post-processing, in "
        f"batches of {config.batch_size})",
    )
    say_threshold(metrics, checkpoint)
    say_findings(findings)
    say("saved", f"{folder / REPORT}, {MONITOR_METRICS}, {DETECTIONS}")
    return 0


def _output_folder(config: Config, checkpoint: Checkpoint) -> Path:
    """Beside the checkpoint; a data set that it was not trained on has a folder of its own."""
    beside = report_folder(checkpoint.path)
    remembered = checkpoint.description.data.get("path")
    data = Path(config.path or remembered or "").resolve()
    if config.path and str(data) != remembered:
        beside = beside.with_name(f"{beside.name}-{data.name}")
    folder = Path(config.output) if config.output else beside
    if config.path or remembered:
        refuse_inside(folder, data, "the data set")
    return folder
