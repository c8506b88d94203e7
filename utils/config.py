"""Every property a user may change: its default, unit, help and validation, in one table.

There are two ways to set one: edit its default here, or pass its flag. ``main.py`` makes the flags
from the fields below. This module imports nothing heavy, so that ``--help`` answers at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from utils.errors import UserError
from utils.options import (
    Option,
    at_least,
    between,
    more_than,
    one_of,
    parse_bool,
    parse_float,
    parse_how_long,
    parse_int,
    parse_text,
)

MODELS = (*(f"efficientnet-b{i}" for i in range(8)), "resnet50")


def _option(default: Any, help: str, parse: Callable[[str], Any], **more: Any) -> Any:
    return dataclasses.field(default=default, metadata={"option": Option(help, parse, **more)})


TRAINING = "Training"
MODEL = "Model"
DATA = "Data"
GUARD = "Temperature guard (with -g True)"
OUTPUT = "Output"


# The defaults of a new detector, in the table below None: a checkpoint has its own.
NEW_DETECTOR: dict[str, Any] = {"model": "efficientnet-b0", "image_size": 512, "anchor_scale": 1.0}


@dataclass(frozen=True)
class Config:
    """The configuration of one run; each field says what it means in its ``help``."""

    # The seven flags of the original.
    path: str | None = _option(
        None,
        "the data set's folder; without it, playing cards drawn by the program",
        parse_text,
        short="-p",
        metavar="FOLDER",
    )
    device: str | None = _option(
        None,
        "cuda or cpu; by default cuda where there is one",
        one_of("cuda", "cpu"),
        short="-d",
    )
    gpu: bool = _option(
        False,
        "True: keep the GPU's temperature in the safe zone",
        parse_bool,
        short="-g",
        metavar="BOOL",
    )
    model: str | None = _option(
        None,
        "efficientnet-b0 to efficientnet-b7, or resnet50, the original RetinaNet "
        "[default: efficientnet-b0, or the checkpoint's]",
        one_of(*MODELS),
        short="-m",
    )
    load: str | None = _option(
        None,
        "a checkpoint: monitor it, or with -t True start from its weights",
        parse_text,
        short="-l",
        metavar="FILE",
    )
    workers: int = _option(
        2,
        "number of processes that load images; 0 loads in the main process",
        parse_int,
        short="-w",
        check=at_least(0),
    )
    train: bool = _option(
        False,
        "True: train; False: monitor the checkpoint given with -l",
        parse_bool,
        short="-t",
        metavar="BOOL",
    )

    check: bool = _option(
        False,
        "look at the data set of -p and say what is wrong with it",
        parse_bool,
        is_switch=True,
    )
    predict: str | None = _option(
        None,
        "an image or a folder of them, with -l: find and draw the objects in every picture",
        parse_text,
        metavar="PATH",
    )

    epochs: int = _option(
        40, "passes over the training images", parse_int, group=TRAINING, check=at_least(1)
    )
    batch_size: int = _option(8, "images a step", parse_int, group=TRAINING, check=at_least(1))
    learning_rate: float = _option(
        1e-3, "peak of the schedule (AdamW)", parse_float, group=TRAINING, check=more_than(0)
    )
    pretrained_backbone_factor: float = _option(
        0.1,
        "multiplies the learning rate for a backbone with ImageNet weights",
        parse_float,
        group=TRAINING,
        check=at_least(0),
    )
    weight_decay: float = _option(
        0.05,
        "AdamW's, not applied to biases and norms",
        parse_float,
        group=TRAINING,
        check=at_least(0),
    )
    warmup_steps: int = _option(
        100,
        "steps of linear warm-up before the cosine; a shorter run never reaches the peak",
        parse_int,
        group=TRAINING,
        check=at_least(0),
    )
    gradient_clip: float = _option(
        10.0,
        "largest norm of the gradient; 0 leaves it as it is",
        parse_float,
        group=TRAINING,
        check=at_least(0),
    )
    ema_decay: float = _option(
        0.998,
        "of the averaged weights, which are validated and saved",
        parse_float,
        group=TRAINING,
        check=between(0, 1),
    )
    precision: str = _option(
        "auto",
        "auto, fp32 or bf16; auto takes bf16 where the hardware computes it",
        one_of("auto", "fp32", "bf16"),
        group=TRAINING,
    )
    compile: bool = _option(
        False,
        "True: torch.compile the network first, which takes minutes; for long runs on a GPU",
        parse_bool,
        group=TRAINING,
        metavar="BOOL",
    )
    crop_pretraining: str = _option(
        "auto",
        "auto, off, minutes (3) or steps (400steps): without pretrained weights the "
        "backbone first learns to classify the objects' crops",
        parse_how_long,
        group=TRAINING,
        metavar="HOW_LONG",
    )
    cpu_kernels: bool = _option(
        True,
        "False: compute with PyTorch's own operations, for comparing",
        parse_bool,
        group=TRAINING,
        metavar="BOOL",
    )
    seed: int = _option(
        0, "of every random choice", parse_int, group=TRAINING, check=between(0, 2**31)
    )
    val_every: int = _option(
        1, "epochs from one validation to the next", parse_int, group=TRAINING, check=at_least(1)
    )
    overfit: int = _option(
        0,
        "train and validate on the first N training images only, to see whether anything is "
        "learned at all; 0 is off",
        parse_int,
        group=TRAINING,
        metavar="N",
        check=at_least(0),
    )
    resume: str | None = _option(
        None,
        "a run's folder or its last.pth: continue that run exactly",
        parse_text,
        group=TRAINING,
        metavar="RUN",
    )

    backbone_weights: str = _option(
        "auto",
        "auto, imagenet, none or the file of a state dict; auto takes ImageNet's where "
        "they are cached or reachable",
        parse_text,
        group=MODEL,
        metavar="WEIGHTS",
    )
    trainable_layers: int | None = _option(
        None,
        "layers of a pretrained backbone that train, from the deepest: 0 (frozen) to 6 "
        "[default: all]",
        parse_int,
        group=MODEL,
        check=at_least(0),
    )
    image_size: int | None = _option(
        None,
        "pixels of the longer side, as the model sees an image [default: 512, or the checkpoint's]",
        parse_int,
        group=MODEL,
        check=at_least(64, " pixels"),
    )
    anchor_scale: float | None = _option(
        None,
        "multiplies every anchor size; 0.5 for small objects or image sizes below 256 "
        "[default: 1, or the checkpoint's]",
        parse_float,
        group=MODEL,
        check=more_than(0),
    )

    validation_fraction: float = _option(
        0.2,
        "share of the images held out where the data set has no split of its own",
        parse_float,
        group=DATA,
        check=between(0.01, 0.91),
    )
    on_bad_image: str | None = _option(
        None,
        "fail: images that are missing or cannot be read keep a run from starting; skip: they are "
        "left out, counted and listed [default: fail, or the checkpoint's]",
        one_of("fail", "skip"),
        group=DATA,
    )
    max_megapixels: float | None = _option(
        None,
        "largest image that is opened [default: 179, Pillow's limit against decompression bombs]",
        parse_float,
        group=DATA,
        check=more_than(0),
    )
    demo_images: int = _option(
        1200,
        "training images that are drawn when -p is not given; a tenth as many for validation",
        parse_int,
        group=DATA,
        check=at_least(10),
    )
    scale_jitter: float = _option(
        1.5,
        "training scales each image by up to this factor, either way",
        parse_float,
        group=DATA,
        check=at_least(1),
    )
    quarter_turns: bool = _option(
        False,
        "True: training also turns images by 90, 180 and 270 degrees, for objects seen from above",
        parse_bool,
        group=DATA,
        metavar="BOOL",
    )
    cache: bool = _option(
        True,
        "True: keep the decoded images in memory while training, where they fit",
        parse_bool,
        group=DATA,
        metavar="BOOL",
    )
    cache_folder: str = _option(
        "~/.cache/efficient-retinanet",
        "folder for what the program draws or prepares itself",
        parse_text,
        group=DATA,
        metavar="FOLDER",
    )

    delay_time: float = _option(
        0.0, "seconds to rest after every batch", parse_float, group=GUARD, check=at_least(0)
    )
    high_temp: float = _option(
        78.0,
        "°C at or above which training pauses",
        parse_float,
        group=GUARD,
        check=more_than(0),
    )
    low_temp: float = _option(
        65.0, "°C at or below which it goes on", parse_float, group=GUARD, check=more_than(0)
    )
    max_pause: float = _option(
        30.0,
        "minutes after which a pause ends in any case",
        parse_float,
        group=GUARD,
        check=more_than(0),
    )

    output: str | None = _option(
        None,
        "folder that receives a run's folder [default: runs], or a monitor's pictures "
        "[default: beside the checkpoint]",
        parse_text,
        group=OUTPUT,
        metavar="FOLDER",
    )
    name: str | None = _option(
        None,
        "name of the run's folder [default: the model and a number]",
        parse_text,
        group=OUTPUT,
    )
    check_report: str | None = _option(
        None,
        "with --check: also write what was found there, as JSON",
        parse_text,
        group=OUTPUT,
        metavar="FILE",
    )
    score_threshold: float | None = _option(
        None,
        "detections below are not drawn and not predicted; metrics always count from 0.05 "
        "[default: what the report recommended, from the checkpoint; else 0.5]",
        parse_float,
        group=OUTPUT,
        check=between(0, 1),
    )
    verify_metrics: bool | None = _option(
        None,
        "True or False: compute the monitor's numbers with pycocotools and compare [default: up to "
        "1,000 images]",
        parse_bool,
        group=OUTPUT,
        metavar="BOOL",
    )
    debug: bool = _option(
        False, "True: show the traceback of an error", parse_bool, group=OUTPUT, metavar="BOOL"
    )

    def __post_init__(self) -> None:
        for name, option in options().items():
            value = getattr(self, name)
            problem = option.check(value) if option.check and value is not None else None
            if problem:
                raise UserError(f"{flag_of(name)} {value}: {problem}.")
        if self.low_temp >= self.high_temp:
            raise UserError(
                f"--low-temp {self.low_temp:g}, --high-temp {self.high_temp:g}: the pause ends at "
                "the low temperature, so it must be below the high one."
            )

    def of_new_detector(self, name: str) -> Any:
        """The value of a property that a checkpoint would decide, where there is none."""
        value = getattr(self, name)
        return NEW_DETECTOR[name] if value is None else value

    @classmethod
    def merged(cls, given: Mapping[str, Any]) -> Config:
        """The defaults above with the values given on the command line over them."""
        return cls(**given)


def options() -> dict[str, Option]:
    """The option of every field, by the field's name."""
    return {f.name: f.metadata["option"] for f in dataclasses.fields(Config)}


def flag_of(name: str) -> str:
    """``batch_size`` to ``--batch-size``."""
    return "--" + name.replace("_", "-")
