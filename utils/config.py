"""Every property a user may change: its default, unit, help and validation, in one table.

There are two ways to set one: edit its default here, or pass its flag. ``main.py`` makes the flags
from the fields below. This module imports nothing heavy, so that ``--help`` answers at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import utils.option_groups as table
from utils.errors import UserError
from utils.option_groups import CHECK, EVERY, FROM_WEIGHTS, MONITOR, READING, RESUME, TRAIN
from utils.options import MODELS, Budget, Option, at_least, between, flag_of, more_than, one_of
from utils.options import zero_or_at_least as zero_or

NEW_MODEL = "efficientnet-b0"
# What a new detector is given by the model or the data where the table has None, a checkpoint has.
OF_CHECKPOINT = ("model", "image_size", "anchor_scale")


@dataclass(frozen=True)
class Config:
    """The configuration of one run; each field says what it means in its ``help``."""

    # The seven flags of the original.
    path: str | None = table.option(
        None,
        "the data set's folder; without it the checkpoint's, else drawn playing cards",
        short="-p",
        metavar="FOLDER",
        commands=READING,
    )
    device: str | None = table.option(
        None,
        "cuda or cpu; by default cuda where there is one",
        parse=one_of("cuda", "cpu"),
        short="-d",
    )
    gpu: bool = table.option(False, "True: keep the GPU's temperature in the safe zone", short="-g")
    model: str | None = table.option(
        None,
        "efficientnet-b0 to -b7, efficientnet-lite0 to -lite4, or resnet50, the original RetinaNet "
        "[default: efficientnet-b0, or the checkpoint's]",
        parse=one_of(*MODELS),
        short="-m",
        commands=FROM_WEIGHTS,
    )
    load: str | None = table.option(
        None,
        "a checkpoint: monitor it, or with -t True start from its weights",
        short="-l",
        metavar="FILE",
        commands=FROM_WEIGHTS,
    )
    workers: int = table.option(
        2, "processes that load images; 0 loads in the main one", short="-w", check=at_least(0)
    )
    train: bool = table.option(
        False,
        "True: train; False: monitor the checkpoint given with -l",
        short="-t",
        commands=EVERY,
    )

    resume: str | None = table.option(
        None, "a run's folder or its last.pth: the run goes on", metavar="RUN", commands=(RESUME,)
    )
    predict: str | None = table.option(
        None,
        "an image or a folder of them, with -l: find and draw the objects in every image",
        metavar="PATH",
        commands=(table.PREDICT,),
    )
    check: bool = table.option(
        False,
        "check the data set of -p and list what is wrong with it",
        is_switch=True,
        commands=EVERY,
    )

    output: str | None = table.common(
        None,
        "where the run's folder is made [default: runs]; for monitor and predict, where their "
        "files go [default: beside the checkpoint]",
        metavar="FOLDER",
        commands=FROM_WEIGHTS,
    )
    batch_size: int = table.common(8, "images per step", commands=FROM_WEIGHTS, check=at_least(1))
    precision: str = table.common(
        "auto",
        "auto, fp32 or bf16; auto takes bf16 where the hardware computes it",
        parse=one_of("auto", "fp32", "bf16"),
    )
    cpu_kernels: bool = table.common(
        True, "False: compute with PyTorch's own operations, for comparing"
    )
    score_threshold: float | None = table.common(
        None,
        "detections below are not drawn and not predicted; metrics always count from 0.05 "
        "[default: what the report recommended, from the checkpoint; else 0.5]",
        check=between(0, 1),
    )
    debug: bool = table.common(False, "True: show the traceback of an error", commands=EVERY)

    epochs: int = table.training(
        40, "passes over the training images", commands=(TRAIN, RESUME), check=at_least(1)
    )
    learning_rate: float = table.training(1e-3, "peak of the schedule (AdamW)", check=more_than(0))
    pretrained_backbone_factor: float = table.training(
        0.3,
        "multiplies the learning rate for a pretrained backbone",
        check=at_least(0),
    )
    weight_decay: float = table.training(
        0.05, "AdamW's weight decay; biases and norm parameters are left out", check=at_least(0)
    )
    warmup_steps: int = table.training(
        100,
        "steps of linear warm-up before the cosine; a shorter run never reaches the peak",
        check=at_least(0),
    )
    gradient_clip: float = table.training(
        10.0, "largest norm of the gradient; 0 leaves it as it is", check=at_least(0)
    )
    ema_decay: float = table.training(
        0.998, "decay of the averaged weights, which are validated and saved", check=between(0, 1)
    )
    compile: bool = table.training(
        False,
        "True: torch.compile the network first, which takes minutes; for long runs on a GPU",
        commands=(TRAIN, RESUME),
    )
    crop_pretraining: Budget = table.training(
        Budget.parse("auto"),
        "how long the backbone first learns to classify the objects' crops: auto, off, minutes (3) "
        "or steps (400steps)",
        metavar="HOW_LONG",
    )
    seed: int = table.training(
        0,
        "seed of every random choice; with -l the data set keeps the checkpoint's split",
        commands=(TRAIN, CHECK),
        check=between(0, 2**31),
    )
    val_every: int = table.training(1, "epochs from one validation to the next", check=at_least(1))
    overfit: int = table.training(
        0,
        "train and validate on the first N training images only, to see whether anything is "
        "learned at all; 0 is off",
        metavar="N",
        commands=(TRAIN, MONITOR),
        check=at_least(0),
    )
    name: str | None = table.training(
        None, "name of the run's folder [default: the model and a number]"
    )

    backbone_weights: str = table.model(
        "auto",
        "auto, imagenet, none or the file of a state dict; auto takes ImageNet's where they are "
        "installed, cached or reachable",
        metavar="WEIGHTS",
        commands=(TRAIN,),
    )
    trainable_layers: int | None = table.model(
        None,
        "layers of a pretrained backbone that train, from the deepest: 0 to 6 [default: all]",
        commands=(TRAIN,),
        check=at_least(0),
    )
    image_size: int | None = table.model(
        None,
        "pixels of the longer side, as the model sees an image [default: from the objects' sizes, "
        "or the checkpoint's]",
        check=at_least(64, " pixels"),
    )
    anchor_scale: float | None = table.model(
        None,
        "multiplies every anchor size [default: from the objects' sizes, or the checkpoint's]",
        check=more_than(0),
    )

    validation_fraction: float | None = table.data(
        None,
        "share of the images held out where the data set has no split of its own [default: 0.2]",
        commands=(TRAIN, CHECK),
        check=between(0.01, 0.91),
    )
    on_bad_image: str | None = table.data(
        None,
        "fail: do not start when an image is missing or unreadable; skip: leave such images out, "
        "count and list them [default: fail, or the checkpoint's]",
        parse=one_of("fail", "skip"),
        commands=READING,
    )
    max_megapixels: float | None = table.data(
        None,
        "largest image that is opened [default: 179, Pillow's limit against decompression bombs]",
        commands=EVERY,
        check=more_than(0),
    )
    demo_images: int = table.data(
        1200,
        "images drawn to train on, without -p; a tenth as many to validate on",
        check=at_least(10),
    )
    scale_jitter: float = table.data(
        1.5, "training scales each image by up to this factor, either way", check=at_least(1)
    )
    window: int | None = table.data(
        None,
        "train on windows of so many pixels, cut mostly around objects, of images at --image-size; "
        "0 takes whole images [default: five eighths of the image size]",
        check=zero_or(64, " pixels"),
    )
    copy_paste: int = table.data(
        2,
        "up to so many objects of other training images are pasted into each; 0 is off",
        check=at_least(0),
    )
    quarter_turns: bool = table.data(
        False, "True: training also turns images by 90, 180 and 270 degrees, for views from above"
    )
    cache: bool = table.data(
        True, "True: keep decoded images in memory, where they fit", commands=(TRAIN, RESUME)
    )
    cache_folder: str = table.data(
        "~/.cache/efficient-retinanet",
        "folder for the cards that the program draws",
        metavar="FOLDER",
        commands=(TRAIN, RESUME, MONITOR),
    )

    verify_metrics: bool | None = table.option(
        None,
        "compute the numbers with pycocotools too, and compare [default: True up to 1,000 images]",
        group="Monitor",
    )

    check_report: str | None = table.option(
        None, "also write what is wrong, as JSON", group="Check", metavar="FILE"
    )

    delay_time: float = table.guard(0.0, "seconds to rest after every batch", check=at_least(0))
    high_temp: float = table.guard(78.0, "°C at or above which training pauses", check=more_than(0))
    low_temp: float = table.guard(65.0, "°C at or below which it goes on", check=more_than(0))
    max_pause: float = table.guard(
        30.0, "minutes after which a pause ends anyway", check=more_than(0)
    )

    def __post_init__(self) -> None:
        for name, option in options().items():
            option.refuse_bad(getattr(self, name), flag_of(name))
        if self.low_temp >= self.high_temp:
            raise UserError(
                f"--low-temp {self.low_temp:g}, --high-temp {self.high_temp:g}: the pause ends at "
                "the low temperature, so it must be below the high one."
            )

    def cooldown(self) -> tuple[float, float, float, float]:
        """The arguments of ``utils.gpu_check.Cooldown``, the last one in seconds."""
        return self.delay_time, self.high_temp, self.low_temp, 60 * self.max_pause

    def as_plain(self) -> dict[str, Any]:
        """For ``config.json``."""
        return {**dataclasses.asdict(self), "crop_pretraining": str(self.crop_pretraining)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Config:
        """Of ``as_plain``, or a part of it; raises TypeError or ValueError for anything else."""
        budget = Budget.parse(str(plain.get("crop_pretraining", cls.crop_pretraining)))
        return cls(**{**plain, "crop_pretraining": budget})


def options() -> dict[str, Option]:
    """The option of every field, by the field's name."""
    return {f.name: f.metadata["option"].of_type(str(f.type)) for f in dataclasses.fields(Config)}
