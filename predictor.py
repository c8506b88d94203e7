"""Predict: a checkpoint's detector on a person's own images, drawn and as JSON and CSV."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import torch

from data.image_files.find import describe_others, find_images
from evaluation.metrics.operating_point import LOWEST_SCORE
from model.checkpoint import Checkpoint, load_checkpoint
from model.efficient_retinanet import describe_parameters
from prediction.inference import Prediction, predict
from prediction.output_files import COCO_RESULTS, DRAWN, IMAGES, OBJECTS, OutputFiles
from utils.config import Config
from utils.console import is_terminal, progress_bar, say
from utils.errors import UserError
from utils.gpu_check import Cooldown
from utils.hardware import Machine
from utils.lightning_setup import quieten_libraries, readable_failures
from utils.run_folder import create_run_folder, make_folder, refuse_inside

LINE_EVERY = 500  # images, where there is no terminal for a bar


def launch(config: Config) -> int:
    """Detect objects in ``config.predict``, an image or a folder, with ``config.load``.

    Writes annotated images and tables into ``config.output``, by default a new folder beside the
    checkpoint. Returns the exit status, 1 if an image could not be read. Raises UserError for a
    file that is no checkpoint, a path without images, flags that contradict the checkpoint and an
    output folder that holds results or lies in the folder of the images.
    """
    quieten_libraries()
    machine = Machine.choose(config.device, config.precision, config.cpu_kernels)
    checkpoint = load_checkpoint(Path(config.load or ""))
    checkpoint.refuse_contradictions(
        model_name=config.model, image_size=config.image_size, anchor_scale=config.anchor_scale
    )
    source = Path(config.predict or "").expanduser()
    images = find_images(source, "--predict")
    threshold = checkpoint.threshold(config.score_threshold)
    model = checkpoint.build_model(min(LOWEST_SCORE, threshold))
    trained_on = checkpoint.description.data.get("path")
    if config.output and trained_on:
        refuse_inside(Path(config.output), Path(trained_on), "the data set")
    folder = _output_folder(config.output, checkpoint.path.parent, source)
    name = checkpoint.description.model_name
    say("model", f"{name}: {describe_parameters(model)}, epoch {checkpoint.epoch}")
    say("device", str(machine))
    say("threshold", f"{threshold:g}, {_origin(config, checkpoint)}")
    say("images", f"{len(images.paths)} in {images.root}{describe_others(images.others)}")
    for unlisted, reason in images.unlisted:
        say("failed", f"{unlisted}: {reason}")

    predictions = predict(
        model,
        images.paths,
        checkpoint.description.class_names,
        score_threshold=threshold,
        batch_size=config.batch_size,
        workers=config.workers,
        machine=machine,
        keep_images=True,
    )
    with readable_failures():
        results = OutputFiles(folder, images.names)
    start = time.monotonic()
    try:
        with readable_failures():
            _write_all(config, predictions, results, len(images.paths), machine.device)
    except (KeyboardInterrupt, UserError):
        kept = "the results so far are in" if results.whole() else "parts may be left in"
        say("stopped", f"after {results.images} of {len(images.paths)} images; {kept} {folder}")
        raise
    failed = results.failed + len(images.unlisted)
    speed = results.images / (time.monotonic() - start)
    say(
        "done",
        f"images {results.images}, objects {results.objects}, failed {failed}; {speed:.1f} "
        "images/s with reading and drawing",
    )
    if not results.objects:
        advice = "give a lower --score-threshold to see weaker ones"
        say("note", f"no detection reaches {threshold:g}; {advice}")
    say("saved", f"{folder}: {DRAWN}/, {COCO_RESULTS}, {OBJECTS}, {IMAGES}")
    return 1 if failed else 0


def _write_all(
    config: Config,
    predictions: Iterator[Prediction],
    results: OutputFiles,
    total: int,
    device: torch.device,
) -> None:
    """Write every prediction into the results; the temperature guard rests after every batch."""
    cooldown = Cooldown(*config.cooldown())
    if config.gpu:
        cooldown.start(device)
    try:
        with progress_bar("detecting") as progress, results:
            for prediction in predictions:
                results.add(prediction)
                if prediction.error:
                    say("failed", f"{prediction.source}: {prediction.error}")
                progress(results.images, total)
                if results.images % LINE_EVERY == 0 and not is_terminal():
                    say("progress", f"{results.images} of {total} images")
                if config.gpu and results.images % config.batch_size == 0:
                    cooldown.rest()
    finally:
        cooldown.finish()


def _origin(config: Config, checkpoint: Checkpoint) -> str:
    if config.score_threshold is not None:
        return "from --score-threshold"
    if checkpoint.score_threshold is not None:
        return "recommended by the checkpoint's validation"
    return "the default: the checkpoint recommends none"


def _output_folder(requested: str | None, beside: Path, source: Path) -> Path:
    """An empty place for the results, outside the folder of the images."""
    if requested is None:
        refuse_inside(beside, source, "the images")
        resolved = source.resolve()
        name = resolved.stem if resolved.is_file() else resolved.name
        return create_run_folder(beside, f"predict-{name}" if name else "predict")
    folder = Path(requested)
    refuse_inside(folder, source, "the images")
    taken = [name for name in (DRAWN, COCO_RESULTS, OBJECTS, IMAGES) if (folder / name).exists()]
    if taken:
        raise UserError(
            f"--output {folder}: holds {', '.join(taken)} already, which would be overwritten; "
            "give another folder."
        )
    return make_folder(folder)
