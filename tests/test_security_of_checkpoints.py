"""Untrusted checkpoints: what one cannot make the program do.

The attack is also let through once, with its protection off, to show that the test would see it.
"""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import main
from model.checkpoint import load_checkpoint, write_whole
from tests.data_sets import ACE, KING, write_cards
from tests.small_models import DESCRIPTION
from utils.config import Config
from utils.errors import UserError
from utils.run_folder import read_json, read_metrics, write_json

CPU = ("-d", "cpu", "-w", "0")
TWO = {"a.jpg": [ACE], "b.jpg": [ACE, KING]}


class Calls:
    """Unpickling it calls a function, which leaves a marker."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def attacks(marker: Path) -> dict[str, Any]:
    """Each makes a file or a folder of this name."""
    name = str(marker)
    return {
        "os.mkdir": Calls(os.mkdir, name),
        "os.system": Calls(os.system, f"mkdir '{name}'"),
        "eval": Calls(eval, f"__import__('os').mkdir({name!r})"),
        "exec": Calls(exec, f"import os; os.mkdir({name!r})"),
        "open": Calls(open, name, "w"),
    }


def content_with(odd: Any, place: str) -> Any:
    """A last.pth that is correct but for one value."""
    plain = DESCRIPTION.as_plain()
    content: dict[Any, Any] = {
        "detector": plain,
        "weights": {"a": torch.zeros(2)},
        "epoch": 4,
        "metrics": {"mAP": 0.5},
        "training": {},
        "optimizer_states": [],
        "callbacks": {},
    }
    if place == "everything":
        return odd
    if place in plain:
        plain[place] = odd
    else:
        content[place] = {"a": odd} if place in ("weights", "metrics", "callbacks") else odd
    return content


PLACES = ["everything", "class_names", "data", "image_size", "weights", "epoch", "metrics"]
PLACES += ["optimizer_states", "callbacks", "anything else"]


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line on standard error of a command that is refused."""
    capsys.readouterr()
    assert main.main([str(a) for a in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error[:-1].isprintable(), error
    return error


def run_with(last: bytes, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    write_json({"epochs": Config.epochs}, folder / "config.json")
    (folder / "last.pth").write_bytes(last)
    return folder / "last.pth"


def saved(content: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def test_a_checkpoint_that_calls_functions_is_refused_by_every_flag_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cards = write_cards(tmp_path / "cards", TWO, TWO)
    marker, output = tmp_path / "executed", tmp_path / "runs"
    path = run_with(saved(content_with(Calls(os.mkdir, str(marker)), "metrics")), tmp_path / "run")
    train = ("-t", "True", "-p", cards, "--output", output, *CPU)
    for flag, arguments in (
        ("--load", ("-l", path, *CPU)),
        ("--load", ("-l", path, "--predict", cards / "train", *CPU)),
        ("", ("-l", path, *train)),
        ("--resume", ("--resume", path.parent)),
        ("--backbone-weights", (*train, "-m", "efficientnet-b0", "--backbone-weights", path)),
    ):
        error = refusal(capsys, *arguments)
        assert flag in error, arguments
        assert str(path) in error and "needs the code of posix.mkdir, which is not run" in error
        assert "weights_only" not in error, "that would be an invitation"
    assert not marker.exists() and not output.exists()


@pytest.mark.parametrize("attack", attacks(Path("x")))
def test_no_function_in_a_pickle_is_called_whatever_its_place(
    attack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker, path = tmp_path / "executed", tmp_path / "evil.pth"
    odd = attacks(marker)[attack]
    pickles = [saved(content_with(odd, place)) for place in PLACES]
    pickles += [saved(odd, _use_new_zipfile_serialization=False)]
    pickles += [pickle.dumps(odd, protocol) for protocol in range(6)]
    for content in pickles:
        path.write_bytes(content)
        with pytest.raises(UserError, match="not a checkpoint of plain tensors and values"):
            load_checkpoint(path)
    assert not marker.exists()
    trusting = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: trusting(*a, **{**k, "weights_only": False}))
    path.write_bytes(pickles[0])
    with pytest.raises(UserError):
        load_checkpoint(path)
    assert marker.exists(), "the attack works where it is let through"


@pytest.mark.parametrize("zipped", [True, False])
def test_resuming_from_what_is_no_run_is_one_line(
    zipped: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = content_with(5, "anything else")
    if zipped:
        del content["epoch"]
    path = run_with(saved(content, _use_new_zipfile_serialization=zipped), tmp_path / "run")
    assert f"--resume {path}" in refusal(capsys, "--resume", path.parent)


def test_starting_from_weights_of_other_shapes_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cards = write_cards(tmp_path / "cards", TWO, TWO)
    weights = {n: torch.zeros(3, 7) for n in DESCRIPTION.build().state_dict()}
    path = tmp_path / "a.pth"
    write_whole({"detector": DESCRIPTION.as_plain(), "weights": weights}, path)
    error = refusal(capsys, "-t", "True", "-l", path, "-p", cards, *CPU)
    assert str(path) in error and "do not fit" in error


def test_the_files_beside_a_checkpoint_are_read_with_messages(tmp_path: Path) -> None:
    metrics = ("epoch\nx\n", "epoch\n1,2\n", f"epoch\n{'1' * 200_000}\n", "epoch\n\xff\n")
    for name, read, texts in (
        ("config.json", read_json, ("[" * 100_000, '{"a": ', "\xff", "[1]")),
        ("metrics.csv", read_metrics, metrics),
    ):
        for text in texts:
            (tmp_path / name).write_bytes(text.encode("latin-1"))
            with pytest.raises(UserError, match=name):
                read(tmp_path / name)
