"""Both launchers hand on whether images that cannot be read are left out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest

import monitor
import trainer
from data.source import DataSource
from main import read_config
from model.checkpoint import Checkpoint, DetectorDescription


class Opened(Exception):
    """Ends a launch where its data set would be read."""


@pytest.mark.parametrize("launcher", [trainer, monitor])
@pytest.mark.parametrize(
    ("flags", "remembered", "skips"),
    [
        ((), True, True),
        (("--on-bad-image", "fail"), True, False),
        (("--on-bad-image", "skip"), False, True),
    ],
)
def test_a_given_flag_wins_over_what_a_checkpoint_remembers(
    flags: tuple[str, ...],
    remembered: bool,
    skips: bool,
    launcher: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(source: DataSource, *_: Any, **__: Any) -> NoReturn:
        raise Opened(source)

    data = dataclasses.asdict(DataSource(str(tmp_path), skip_bad_images=remembered))
    description = DetectorDescription("efficientnet-b0", ("ace", "king"), data=data)
    checkpoint = Checkpoint(tmp_path / "best.pth", description, {}, 1, {})
    monkeypatch.setattr(launcher, "load_checkpoint", lambda *_: checkpoint)
    monkeypatch.setattr(DataSource, "open_for_run", stop)
    mode = ("-t", "True") if launcher is trainer else ()
    with pytest.raises(Opened) as caught:
        launcher.launch(read_config([*mode, "-l", "best.pth", *flags]))
    assert caught.value.args[0] == DataSource(str(tmp_path), skip_bad_images=skips)
