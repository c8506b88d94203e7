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
from model.checkpoint import Checkpoint, DetectorDescription
from utils.config import Config


class Opened(Exception):
    """Ends a launch where its data set would be read."""


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
    def stop(source: DataSource, *_: Any, **__: Any) -> NoReturn:
        raise Opened(source)

    data = dataclasses.asdict(DataSource(str(tmp_path), skip_bad_images=remembered))
    description = DetectorDescription("efficientnet-b0", ("ace", "king"), data=data)
    checkpoint = Checkpoint(tmp_path / "best.pth", description, {}, 1, {})
    monkeypatch.setattr(launcher, "load_checkpoint", lambda *_: checkpoint)
    monkeypatch.setattr(DataSource, "open_for_run", stop)
    config = Config(train=launcher is trainer, load="best.pth", on_bad_image=flag)
    with pytest.raises(Opened) as caught:
        launcher.launch(config)
    assert caught.value.args[0] == DataSource(str(tmp_path), skip_bad_images=skips)
