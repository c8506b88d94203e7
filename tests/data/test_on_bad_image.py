"""Whether images that cannot be read are left out: the flag, else what the checkpoint remembers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import monitor
import trainer
from data.source import DataSource
from main import read_config
from model.checkpoint import Checkpoint, DetectorDescription
from tests.data_sets import ACE, KING, write_cards
from utils.errors import UserError

CHOICES = [
    ((), False, False),
    ((), True, True),
    (("--on-bad-image", "fail"), True, False),
    (("--on-bad-image", "skip"), False, True),
]


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    folder = write_cards(tmp_path, {f"{i}.jpg": [ACE, KING] for i in range(3)}, {"8.jpg": [ACE]})
    (folder / "train" / "1.jpg").write_bytes(b"")
    return folder


def checkpoint_of(folder: Path, skip: bool) -> Checkpoint:
    data = dataclasses.asdict(DataSource(str(folder), skip_bad_images=skip))
    description = DetectorDescription("efficientnet-b0", ("ace", "king"), data=data)
    return Checkpoint(Path("best.pth"), description, {}, 1, {})


@pytest.mark.parametrize(("flags", "remembered", "skips"), CHOICES)
def test_a_given_flag_wins_over_what_a_checkpoint_remembers_in_a_training(
    flags: tuple[str, ...], remembered: bool, skips: bool, damaged: Path
) -> None:
    config = read_config(["-t", "True", *flags])
    source = trainer._data_source(config, checkpoint_of(damaged, remembered))
    assert source.skip_bad_images == skips


@pytest.mark.parametrize("own_path", [True, False])
@pytest.mark.parametrize(("flags", "remembered", "skips"), CHOICES)
def test_a_given_flag_wins_over_what_a_checkpoint_remembers_in_a_monitor(
    flags: tuple[str, ...], remembered: bool, skips: bool, own_path: bool, damaged: Path
) -> None:
    path = ("-p", str(damaged)) if own_path else ()
    config, checkpoint = read_config([*flags, *path]), checkpoint_of(damaged, remembered)
    if skips:
        assert len(monitor._open_data(config, checkpoint).train) == 2
    else:
        with pytest.raises(UserError, match="1.jpg: the file is empty"):
            monitor._open_data(config, checkpoint)


@pytest.mark.parametrize(("flags", "skips"), [((), False), (CHOICES[3][0], True)])
def test_a_new_training_refuses_unless_the_flag_says_otherwise(
    flags: tuple[str, ...], skips: bool, damaged: Path
) -> None:
    config = read_config(["-t", "True", "-p", str(damaged), *flags])
    assert trainer._data_source(config, None).skip_bad_images == skips
