"""How fast the detector is beside its peers, on the same work: ``python -m benchmarks.speed``.

Side by side in one process, repeats interleaved, medians and their ratios. The *reference* is
torchvision's ``RetinaNet`` over torchvision's ``efficientnet_b0().features`` with
``BackboneWithFPN``, tapped at the same stages, in float32, eager: what the original project runs.
It has our weights, and no ratio is shown where its results differ from ours.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.models.detection import RetinaNet

from benchmarks import other_works, peers, tables
from benchmarks.agreement import detections_agree, losses_agree
from benchmarks.memory import Case, peak_gigabytes
from benchmarks.photographs import photographs
from benchmarks.tables import Row
from benchmarks.timing import interleaved
from model.checkpoint import load_checkpoint
from utils.console import show_table
from utils.errors import UserError
from utils.hardware import choose_device, choose_precision

# Height and width, multiples of 32: 378x504 photographs at 512 px and at torchvision's 800/1333.
SIZES = {"512": (384, 512), "800": (800, 1056), "64": (64, 64)}
SAME_MAP = 0.003  # of bf16 and fp32
MOST_PIXELS_ON_CPU = 4 * 800 * 1056  # of a batch; more take an hour and 40 GB


@dataclass(frozen=True)
class Plan:
    """What is measured, as the flags say. sizes: of ``SIZES``."""

    cards: Path
    sizes: tuple[str, ...]
    batches: tuple[int, ...]
    training_batches: tuple[int, ...]
    repeats: int
    images_to_score: int
    checkpoint: Path | None
    device: torch.device
    low_precision: bool

    @property
    def names(self) -> list[str]:
        """Names of the peers to be measured."""
        return [n for n in peers.NAMES if self.low_precision or not n.endswith("bf16")]


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    # Five detectors in one process have more kernels than oneDNN's cache holds by default: each
    # would be timed with the creation of kernels that its peers had evicted. oneDNN reads this
    # when it creates its first kernel.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")
    try:
        plan = _plan(options)
        weights = str(plan.checkpoint or "random, scaled to give about 300 candidates per image")
        facts = tables.facts(weights)
        rows = []
        for work in options.only:
            for row in MEASURES[work](plan):
                print(*row.cells, sep="  ", flush=True)
                rows.append(row)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    show_table(tables.machine(), tables.COLUMNS, [row.cells for row in rows])
    if options.json:
        options.json.write_text(tables.as_json(rows, facts))
    if options.markdown:
        tables.write_below_mark(tables.as_markdown(rows, facts), options.markdown)
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("CARDS_DIR", "../shared/play_cards")
    add = parser.add_argument
    add("--cards", type=Path, default=Path(default), help="real photographs")
    works = tuple(MEASURES)
    add("--only", type=_some_of(works), default=works, help="some of " + ",".join(works))
    sizes = f"some of {','.join(SIZES)} px, the longer side [default: 512,800]"
    add("--image-size", type=_some_of(SIZES), default=("512", "800"), help=sizes)
    add("--batches", type=_numbers, default=(1, 16), help="of inference [default: 1,16]")
    add("--training-batches", type=_numbers, default=(4, 16), help="[default: 4,16]")
    add("--repeats", type=int, default=5, help="rounds that are counted [default: %(default)s]")
    add("--images-to-score", type=int, default=5000, help="for the mAP [default: %(default)s]")
    add("--checkpoint", type=Path, help="a trained b0 instead of random weights")
    add("--device", choices=("cpu", "cuda"))
    add("--bf16", action="store_true", help="measure bf16 also where a CPU is slow with it")
    add("--json", type=Path, help="also write the rows to this file")
    add("--markdown", type=Path, help="also write the tables into this file, below its mark")
    return parser.parse_args(arguments)


def _some_of(known: Iterable[str]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        if not set(names) <= set(known):
            raise argparse.ArgumentTypeError(f"{text}: expected some of {', '.join(known)}")
        return names

    return parse


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def _plan(options: argparse.Namespace) -> Plan:
    if not options.cards.is_dir():
        raise UserError(f"--cards {options.cards}: no such folder; give the real photographs.")
    device = choose_device(options.device)
    if options.checkpoint:
        model = load_checkpoint(options.checkpoint, "--checkpoint").description.model_name
        if model != "efficientnet-b0":
            raise UserError(
                f"--checkpoint {options.checkpoint}: holds {model}; expected efficientnet-b0."
            )
    return Plan(
        cards=options.cards,
        sizes=options.image_size,
        batches=options.batches,
        training_batches=options.training_batches,
        repeats=options.repeats,
        images_to_score=options.images_to_score,
        checkpoint=options.checkpoint,
        device=device,
        low_precision=options.bf16 or choose_precision("auto", device) == "bf16",
    )


def _detectors(plan: Plan, work: str, batches: tuple[int, ...]) -> Iterator[Row]:
    for size in plan.sizes:
        height, width = SIZES[size]
        most = MOST_PIXELS_ON_CPU if plan.device.type == "cpu" else math.inf
        fitting = [batch for batch in batches if batch * height * width <= most]
        images, targets = photographs(plan.cards, SIZES[size], max(fitting, default=1))
        ours = peers.our_b0(max(SIZES[size]), images, plan.checkpoint)
        on_device = [image.to(plan.device) for image in images]
        truth = [{k: v.to(plan.device) for k, v in target.items()} for target in targets]
        for batch in fitting:
            # New ones each time: training changes their weights.
            models = _peers(plan, ours, work, SIZES[size])
            examples = on_device[:batch], truth[:batch]
            agreement = _agreement(models, ours.to(plan.device), work, *examples)
            runs = {name: peers.runner(peer, work, *examples) for name, peer in models.items()}
            medians = interleaved(runs, plan.repeats)
            title = f"{work.capitalize()}, batch {batch}, {size} px"
            for name, seconds in medians.items():
                ratio = medians[peers.REFERENCE] / seconds
                yield Row(title, name, seconds, ratio, *agreement.get(name, ()))


def _peers(plan: Plan, ours: RetinaNet, work: str, size: tuple[int, int]) -> dict[str, peers.Peer]:
    """The requested peers that are available."""
    made = {name: peers.one_peer(name, ours.cpu(), work, size, plan.device) for name in plan.names}
    return {name: peer for name, peer in made.items() if peer}


def _agreement(
    models: dict[str, peers.Peer],
    ours: RetinaNet,
    work: str,
    images: peers.Images,
    targets: peers.Targets,
) -> dict[str, tuple[str, bool]]:
    """By peer: how far its results are from the reference's, and whether they count as equal."""
    exact, reference = "ours b0, fp32", models[peers.REFERENCE].model
    if work == "training":
        compared = losses_agree(ours, reference, images, targets)
    else:
        compared = detections_agree(models[exact].model, reference, images)
    return {exact: compared, "ours b0, bf16": ("another precision, see accuracy", True)}


def measure_accuracy(plan: Plan) -> Iterator[Row]:
    """The mAP on the validation photographs in both precisions; no rows without a checkpoint."""
    if plan.checkpoint is None:
        return
    scores = {
        name: other_works.validation_map(plan.checkpoint, plan.cards, machine)
        for name, machine in peers.machines(plan.device).items()
        if plan.low_precision or machine.precision == "fp32"
    }
    (exact, *_) = scores.values()
    for name, score in scores.items():
        gap = score - exact
        difference = f"{gap:+.4f}" if gap else ""
        ratio = score / exact if exact else math.nan
        is_equal = abs(gap) <= SAME_MAP
        yield Row("mAP on real photographs", name, score, ratio, difference, is_equal, unit="")


def measure_memory(plan: Plan) -> Iterator[Row]:
    size = plan.sizes[0]
    works = [("inference", batch) for batch in plan.batches]
    for work, batch in (*works, ("training", plan.training_batches[0])):
        case = Case(work, SIZES[size], batch, plan.cards, plan.device.type, plan.checkpoint)
        peaks = {name: peak_gigabytes(name, case) for name in plan.names}
        for name, peak in peaks.items():
            title = f"Peak memory, {work}, batch {batch}, {size} px"
            why = "failed, or not installed" if math.isnan(peak) else ""
            yield Row(title, name, peak, peaks[peers.REFERENCE] / peak, why, unit="GB")


def _others(title: str, works: Mapping[str, Callable[[], Any]], plan: Plan) -> Iterator[Row]:
    """The first of the works is the reference."""
    medians = interleaved(works, plan.repeats)
    base = next(iter(medians.values()))
    for name, seconds in medians.items():
        yield Row(title, name, seconds, base / seconds)


def measure_map(plan: Plan) -> Iterator[Row]:
    count = plan.images_to_score
    works = other_works.scorers(count)
    summaries = {name: work() for name, work in works.items()}
    gap = np.nanmax(np.abs(np.subtract(*summaries.values())))
    medians = interleaved(works, min(plan.repeats, 3))
    for name, seconds in medians.items():
        agreement = (f"{gap:.0e}", bool(gap <= 1e-9)) if name == other_works.OURS else ()
        ratio = medians[other_works.PYCOCOTOOLS] / seconds
        yield Row(f"mAP of {count} images, 100 detections each", name, seconds, ratio, *agreement)


MEASURES: dict[str, Callable[[Plan], Iterator[Row]]] = {
    "inference": lambda plan: _detectors(plan, "inference", plan.batches),
    "training": lambda plan: _detectors(plan, "training", plan.training_batches),
    "accuracy": measure_accuracy,
    "memory": measure_memory,
    "loading": lambda plan: _others(
        "An epoch of the training cards", other_works.loaders(plan.cards), plan
    ),
    "map": measure_map,
    "start": lambda plan: _others("Start-up", other_works.starters(), plan),
}

if __name__ == "__main__":
    sys.exit(main())
