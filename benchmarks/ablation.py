"""What a change of the recipe is good for: short trainings on folds of the training images.

    python -m benchmarks.ablation FOLDER --out rows.jsonl fold=0 image_size=256 crop_steps=250

Each call trains once on all folds but one, measures on that one, and appends a line of JSON: the
trial, its mAP, and what it took. The validation split of the data set is never opened. The
classifier of crops that several trials begin with is trained once and kept beside the rows.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from data import open_dataset
from data.augmentation import training_transform
from data.dataset import Dataset
from data.loader import make_loader
from evaluation.measure import measure
from model.checkpoint import write_whole
from model.efficient_retinanet import get_efficient_retinanet
from model.lightning_trainer import DetectorModule, Recipe
from training.pretrain_crops import pretrain_on_crops
from utils.hardware import Machine
from utils.lightning_setup import make_trainer, quieten_libraries
from utils.options import Budget


@dataclass(frozen=True)
class Trial:
    """One training. images: how many are shown in all, repeats counted."""

    model: str = "efficientnet-lite0"
    weights: str = "auto"
    fold: int = 0
    folds: int = 3
    seed: int = 0
    image_size: int = 256
    anchor_scale: float = 1.0
    freeze_norm: bool = False
    crop_steps: int = 250
    images: int = 1200
    batch_size: int = 8
    learning_rate: float = 1e-3
    backbone_factor: float = 0.3
    ema_decay: float = 0.998
    scale_jitter: float = 1.5
    window: int = 0
    copy_paste: int = 0
    quarter_turns: bool = True

    @classmethod
    def parse(cls, words: list[str]) -> Trial:
        """``image_size=320`` and so on."""
        values: dict[str, Any] = {}
        kinds = {f.name: type(f.default) for f in dataclasses.fields(cls)}
        for word in words:
            name, _, text = word.partition("=")
            kind = kinds[name]
            values[name] = text == "True" if kind is bool else kind(text)
        return cls(**values)


def folds_of(dataset: Dataset, trial: Trial) -> tuple[Dataset, Dataset]:
    """The training images of a trial and those it is measured on; folds are the same for all."""
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(7)).tolist()
    held_out = sorted(order[trial.fold :: trial.folds])
    kept = sorted(set(order) - set(held_out))
    return dataset.subset(kept), dataset.subset(held_out)


def run(trial: Trial, folder: Path, aside: Path) -> dict[str, Any]:
    machine = Machine.choose(None, "auto" if torch.cuda.is_available() else "fp32")
    pl.seed_everything(trial.seed, verbose=False)
    train, held_out = folds_of(open_dataset(folder).train.cached(), trial)
    model = get_efficient_retinanet(
        len(train.class_names) + 1,
        trial.model,
        backbone_weights=trial.weights,
        image_size=trial.image_size,
        anchor_scale=trial.anchor_scale,
        freeze_batch_norm=trial.freeze_norm,
    )
    crop_seconds = learn_crops(model, train, trial, machine, aside)
    transform = training_transform(
        train,
        trial.image_size,
        scale_jitter=trial.scale_jitter,
        quarter_turns=trial.quarter_turns,
        window=trial.window,
        copy_paste=trial.copy_paste,
    )
    recipe = Recipe(
        learning_rate=trial.learning_rate,
        backbone_factor=trial.backbone_factor,
        ema_decay=trial.ema_decay,
        seed=trial.seed,
    )
    module = DetectorModule(model, train.class_names, recipe)
    loader = make_loader(
        train.with_transform(transform), trial.batch_size, shuffle=True, seed=trial.seed
    )
    print(f"{len(train)} images, {trial}", flush=True)
    steps = trial.images // trial.batch_size
    start = time.monotonic()
    trainer = make_trainer(machine, max_epochs=-1, max_steps=steps, gradient_clip_val=10.0)
    trainer.fit(module, loader)
    seconds = time.monotonic() - start
    metrics = measure(module.detector, make_loader(held_out, 8), machine).metrics
    assert metrics is not None
    return {
        **dataclasses.asdict(trial),
        "map": round(metrics.map, 4),
        "map_50": round(metrics.map_50, 4),
        "map_75": round(metrics.map_75, 4),
        "minutes": round(seconds / 60, 1),
        "crop_minutes": round(crop_seconds / 60, 1),
        "torch": torch.__version__,
        "machine": f"{machine}, {platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
    }


def learn_crops(model: Any, train: Dataset, trial: Trial, machine: Machine, aside: Path) -> float:
    """Crop pre-training, or its result from the trial that did it first; the seconds it took."""
    if not trial.crop_steps:
        return 0.0
    names = (
        "model",
        "weights",
        "fold",
        "folds",
        "seed",
        "image_size",
        "freeze_norm",
        "crop_steps",
        "quarter_turns",
    )
    key = "-".join(str(getattr(trial, name)) for name in names)
    kept = aside / f"crops-{key}.pth"
    if not kept.is_file():
        start = time.monotonic()
        budget, turns = Budget(steps=trial.crop_steps), trial.quarter_turns
        pretrain_on_crops(model, train, budget, aside, machine, [], trial.seed, turns)
        state = {"body": model.backbone.body.state_dict(), "seconds": time.monotonic() - start}
        write_whole(state, kept)
    state = torch.load(kept, weights_only=True)
    model.backbone.body.load_state_dict(state["body"])
    return state["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("ablation.jsonl"))
    parser.add_argument("settings", nargs="*", help="NAME=VALUE of a Trial")
    options = parser.parse_intermixed_args()
    quieten_libraries()
    warnings.simplefilter("ignore")
    row = run(Trial.parse(options.settings), options.folder, options.out.parent)
    with open(options.out, "a") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
