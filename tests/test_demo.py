"""``make demo``, with a tenth of its pictures."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from main import main
from tests.repository import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("sigint_as_before")]


def commands(*variables: str) -> list[list[str]]:
    """The flags of the program's runs, as make would start them."""
    lines = subprocess.run(
        ["make", "-n", "demo", *variables], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.replace("\\\n", " ")
    return [shlex.split(x.split("main.py", 1)[1]) for x in lines.splitlines() if "main.py" in x]


def test_the_demo_trains_and_monitors_what_it_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train, monitor = commands("DEMO_IMAGES=60", "DEMO_CROPS=3steps")
    monkeypatch.chdir(tmp_path)
    drawn = ["--cache-folder", str(tmp_path / "cards")]
    assert main([*train, *drawn]) == 0
    assert main([*monitor, *drawn]) == 0
    out = capsys.readouterr().out
    assert "60 training images" in out and "from ImageNet" in out
    assert re.search(r"^crops +3 steps", out, re.MULTILINE)
    assert "COCO summary" in out
    assert list(tmp_path.glob("runs/demo-*/monitor-best/report.html"))
