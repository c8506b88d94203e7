"""Which settings of a checkpoint's data set the launchers hand on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest

import monitor
import trainer
from data.source import DataSource
from model.checkpoint import Checkpoint, DetectorDescription
from utils.config import Config


class Opened(Exception):
    """Ends a launch where its data set would be read."""


def opened(
    monkeypatch: pytest.MonkeyPatch, launcher: ModuleType, remembered: DataSource, config: Config
) -> DataSource:
    """What the launcher opens beside a checkpoint that remembers another data set."""

    def stop(source: DataSource, *_: Any, **__: Any) -> NoReturn:
        raise Opened(source)

    data = dataclasses.asdict(remembered)
    description = DetectorDescription("efficientnet-b0", ("ace", "king"), data=data)
    checkpoint = Checkpoint(Path("run/best.pth"), description, {}, 1, {})
    monkeypatch.setattr(launcher, "load_checkpoint", lambda *_: checkpoint)
    monkeypatch.setattr(trainer, "find_last", Path)
    monkeypatch.setattr(trainer, "refuse_to_resume", lambda *_: None)
    monkeypatch.setattr(DataSource, "open_for_run", stop)
    with pytest.raises(Opened) as caught:
        launcher.launch(config)
    return caught.value.args[0]


@pytest.mark.parametrize("launcher", [trainer, monitor])
@pytest.mark.parametrize(
    ("flag", "remembered", "skips"),
    [(None, False, False), (None, True, True), ("fail", True, False), ("skip", False, True)],
)
def test_a_given_flag_wins_over_what_a_checkpoint_remembers(
    flag: str | None,
    remembered: bool,
    skips: bool,
    launcher: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = DataSource(str(tmp_path), skip_bad_images=remembered)
    config = Config(train=launcher is trainer, load="best.pth", on_bad_image=flag)
    expected = dataclasses.replace(source, skip_bad_images=skips)
    assert opened(monkeypatch, launcher, source, config) == expected


@pytest.mark.parametrize(
    ("launcher", "given", "seed"),
    [(monitor, "load", 7), (trainer, "resume", 7), (trainer, "load", 1)],
)
def test_in_another_folder_all_but_a_new_run_keep_the_checkpoint_s_split(
    launcher: ModuleType, given: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(path=str(tmp_path), seed=1, **{given: "x"})
    source = opened(monkeypatch, launcher, DataSource("/gone", seed=7), config)
    assert source == DataSource(str(tmp_path), seed=seed)
