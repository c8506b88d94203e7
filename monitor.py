"""Monitor a checkpoint: its numbers, its speed, and a report on what it can and cannot do."""

from __future__ import annotations

from pathlib import Path

from data.source import DataSource
from evaluation.metrics.coco import SUMMARY_ROWS, show
from evaluation.metrics.operating_point import Rates
from evaluation.reporter import measure, report_folder, say_findings, say_threshold, write_report
from evaluation.summary import Evaluation
from model.checkpoint import Checkpoint, load_checkpoint
from model.efficient_retinanet import describe_parameters
from training.lost_images import LostImages
from utils.config import Config
from utils.console import say, show_table
from utils.gpu_check import make_guard
from utils.hardware import Machine
from utils.lightning_setup import quieten_libraries, readable_failures
from utils.run_folder import DETECTIONS, MONITOR_METRICS, REPORT, make_folder, refuse_inside


def launch(config: Config) -> Evaluation:
    """Evaluate the checkpoint ``config.load`` on the validation images and show the result.

    The data set is ``config.path`` or the one that the checkpoint remembers. Writes the report into
    ``config.output``, by default a folder beside the checkpoint. Raises UserError for a file that
    is no checkpoint, data that is not there and flags that contradict.
    """
    quieten_libraries()
    machine = Machine.choose(config.device, config.precision)
    checkpoint = load_checkpoint(Path(config.load or ""))
    checkpoint.refuse_contradictions(
        model_name=config.model, image_size=config.image_size, anchor_scale=config.anchor_scale
    )
    remembered, names = checkpoint.description.data, checkpoint.description.class_names
    source = DataSource.choose(
        config.path, remembered, checkpoint=checkpoint.path, on_bad_image=config.on_bad_image
    )
    if not config.path:
        say("note", "-p is not given: the data set that the checkpoint remembers is taken")
    splits = source.open_for_run(
        config.cache_folder,
        overfit=config.overfit,
        class_names=names,
        checkpoint=checkpoint.path,
    )
    folder = make_folder(_output_folder(config, checkpoint))
    model = checkpoint.build_model()
    say(
        "model",
        f"{checkpoint.description.model_name}: {describe_parameters(model)}, "
        f"epoch {checkpoint.epoch}",
    )
    say("device", str(machine))

    guard = make_guard(
        config.gpu, config.delay_time, config.high_temp, config.low_temp, config.max_pause
    )
    module = measure(
        checkpoint,
        splits.validation,
        machine,
        batch_size=config.batch_size,
        workers=config.workers,
        callbacks=[*guard, LostImages(say)],
    )
    with readable_failures():
        evaluation, findings = write_report(
            folder, checkpoint, splits, module, machine, config.score_threshold
        )
    _show(evaluation)
    say(
        "speed",
        f"{module.images_per_second:.1f} it/s (images a second, model and "
        f"post-processing, in batches of {config.batch_size})",
    )
    say_threshold(evaluation, checkpoint)
    say_findings(findings)
    say("saved", f"{folder / REPORT}, {MONITOR_METRICS}, {DETECTIONS}")
    return evaluation


def _output_folder(config: Config, checkpoint: Checkpoint) -> Path:
    """Beside the checkpoint; another data set than its own has a report of its own."""
    beside = report_folder(checkpoint.path)
    own = checkpoint.description.data.get("path")
    data = Path(config.path or own or "").resolve()
    if config.path and str(data) != own:
        beside = beside.with_name(f"{beside.name}-{data.name}")
    folder = Path(config.output) if config.output else beside
    if config.path or own:
        refuse_inside(folder, data, "the data set")
    return folder


def _show(evaluation: Evaluation) -> None:
    metrics, voc = evaluation.metrics, evaluation.voc
    rows = [
        (kind, iou, area, str(detections), show(value))
        for (kind, iou, area, detections), value in zip(SUMMARY_ROWS, metrics.summary, strict=True)
    ]
    show_table("COCO summary", ("metric", "IoU", "area", "detections", "value"), rows)
    classes = [
        _row(name, metrics.objects[name], metrics.class_ap[name], evaluation.rates[name])
        for name in evaluation.class_names
    ]
    overall = (metrics.map, metrics.map_50, metrics.map_75)
    total = _row("all", sum(metrics.objects.values()), overall, evaluation.overall)
    columns = ("class", "objects", "mAP", "mAP50", "mAP75", "precision", "recall", "F1")
    title = f"Classes (precision, recall and F1 at score {evaluation.threshold:.2f})"
    show_table(title, columns, [*classes, total])
    say("mAP", f"{show(metrics.map)}; {evaluation.interval}")
    say(
        "VOC AP50", f"{show(voc.mean_2007)} by the 2007 rule, {show(voc.mean_2010)} by that of 2010"
    )
    say(
        "original",
        f"mAP {show(evaluation.original.map)}, mAP50 {show(evaluation.original.map_50)} with "
        "detections under 0.5 thrown away, as the original project counted",
    )


def _row(name: str, objects: int, ap: tuple[float, ...], rates: Rates) -> tuple[str, ...]:
    values = (*ap, rates.precision, rates.recall, rates.f1)
    return (name, str(objects), *map(show, values))
