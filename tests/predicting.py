"""``--predict`` from the command line, for tests: a checkpoint, and what a command leaves."""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from main import main
from model.checkpoint import DetectorDescription, write_whole
from tests.small_models import SIDE, with_varied_outputs

NAMES = ("ace", "[bold]ki\x1b[2Jng", 'queen\nof, "hearts"')
RESULTS = ("predictions.json", "predictions.csv", "images.csv")
CPU = ["-d", "cpu", "-w", "0", "--precision", "fp32"]


def noise(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """RGB, of this width and height; different everywhere."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def saved(path: Path, image: Image.Image, **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **more)
    return path


@functools.cache
def content() -> dict[str, Any]:
    """Of a best.pth whose scores lie apart, from under 0.05 to sigmoid(1.5)."""
    torch.manual_seed(2)
    description = DetectorDescription("efficientnet-b0", NAMES, image_size=SIDE, anchor_scale=0.25)
    model = with_varied_outputs(description.build())
    last = model.head.classification_head.cls_logits
    with torch.no_grad():
        images = [pil_to_tensor(noise(seed)) / 255 for seed in (1, 97)]
        last.bias.fill_(0)
        features = model.backbone(model.transform(images)[0].tensors)
        highest = model.head(list(features.values()))["cls_logits"].max()
        last.weight.mul_(6.5 / highest)
        last.bias.fill_(-5)
    return {"detector": description.as_plain(), "weights": model.state_dict(), "epoch": 4}


def write_checkpoint(path: Path, **more: Any) -> Path:
    write_whole(content() | more, path)
    return path


class Run(NamedTuple):
    status: int
    out: str
    err: str
    folder: Path

    def lines(self, label: str) -> list[str]:
        return [line for line in self.out.splitlines() if line.split(maxsplit=1)[0] == label]

    def objects(self) -> list[dict[str, Any]]:
        return json.loads((self.folder / "predictions.json").read_text(encoding="utf-8"))

    def rows(self, name: str) -> list[dict[str, str]]:
        with open(self.folder / name, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


def run(checkpoint: Path, path: Path, *flags: str) -> Run:
    """The folder is the one that --output or the last line names."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(["-l", str(checkpoint), "--predict", str(path), *CPU, *flags])
    last = [line for line in out.getvalue().splitlines() if line.startswith("saved")]
    named = last[0].split(maxsplit=1)[1].split(": ")[0] if last else checkpoint.parent / "results"
    return Run(status, out.getvalue(), err.getvalue(), Path(named))
