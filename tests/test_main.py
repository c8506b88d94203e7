"""The command line: flags, errors in one line, and who is launched."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import main
from utils.config import Config, options
from utils.errors import UserError
from utils.option_groups import GROUPS
from utils.options import MODELS, Option, flag_of, parse_bool

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch
SEVEN = {
    "path": ("-p", "cards"),
    "device": ("-d", "cpu"),
    "gpu": ("-g", "True"),
    "model": ("-m", "efficientnet-b4"),
    "load": ("-l", "ckpt.pth"),
    "workers": ("-w", "3"),
    "train": ("-t", "True"),
}
BOOLEANS = [name for name, option in options().items() if option.parse is parse_bool]
Launch = tuple[str, Config]


@pytest.fixture
def launched(monkeypatch: Patch) -> list[Launch]:
    """(launcher, config) of every launch; the launchers themselves are not imported."""
    calls: list[Launch] = []
    for name in set(main.LAUNCHERS.values()):

        def launch(config: Config, name: str = name) -> int:
            calls.append((name, config))
            return 0

        monkeypatch.setitem(sys.modules, name, SimpleNamespace(launch=launch))
    return calls


def make_launcher(monkeypatch: Patch, name: str, outcome: int | BaseException) -> None:
    def launch(config: Config) -> int:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setitem(sys.modules, name, SimpleNamespace(launch=launch))


def fails(capsys: Capture, *arguments: str) -> str:
    """The one line that a failing command prints."""
    assert main.main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ")
    assert err.endswith("\n") and len(err.splitlines()) == 1 and "Traceback" not in err
    return err


def accepted(option: Option) -> str:
    """A text that the option's parser and check accept."""
    for text in ("True", "1", "0.5", "10", "64", *MODELS, "cpu", "auto", "skip", "text"):
        try:
            value = option.parse(text)
        except ValueError:
            continue
        if option.check is None or option.check(value) is None:
            return text
    raise AssertionError("no text fits")


def test_exactly_the_seven_flags_have_a_short_form_and_come_first_with_the_commands() -> None:
    short = {name: option.short for name, option in options().items() if option.short}
    assert short == {name: flag for name, (flag, _) in SEVEN.items()}
    first = {name for name, option in options().items() if not option.group}
    assert first == {*SEVEN, "resume", "predict", "check"}


@pytest.mark.parametrize("name", SEVEN)
def test_the_short_and_the_long_form_of_a_flag_are_the_same(name: str) -> None:
    short, text = SEVEN[name]
    expected = {name: options()[name].parse(text)}
    assert main.read_flags([short, text]) == main.read_flags([f"--{name}", text]) == expected


@pytest.mark.parametrize("name", BOOLEANS)
def test_a_boolean_takes_true_false_yes_no_1_0_and_nothing_else(name: str, capsys: Capture) -> None:
    for words, value in (("true yes 1 TRUE tRuE", True), ("false no 0 FALSE No", False)):
        for word in words.split():
            assert main.read_flags([flag_of(name), word]) == {name: value}
    for word in ("maybe", "", "2", "None"):
        line = fails(capsys, flag_of(name), word)
        assert f"{flag_of(name)} {word}" in line and "True or False" in line


@pytest.mark.parametrize("name", options())
def test_every_field_has_a_flag(name: str) -> None:
    text = accepted(options()[name])
    assert main.read_flags([flag_of(name), text]) == {name: options()[name].parse(text)}


def test_a_switch_alone_means_true_wherever_it_stands() -> None:
    for arguments in (["--check", "-p", "x"], ["-p", "x", "--check"], ["--check", "1", "-p", "x"]):
        assert main.read_flags(arguments) == {"check": True, "path": "x"}
    assert main.read_flags(["--check", "False"]) == {"check": False}


def test_help_shows_every_flag_with_its_default_and_commands_under_its_group(
    capsys: Capture,
) -> None:
    with pytest.raises(SystemExit) as end:
        main.main(["--help"])
    assert end.value.code == 0
    text, err = capsys.readouterr()
    assert err == ""
    title, group_of, words = "", {}, {}
    for line in text.splitlines():
        if match := re.match(r"  (\S.*) \([a-z, ]+\):$", line):
            title = match.group(1)
        elif match := re.match(r" +(?:-\w \S+, )?--([a-z-]+)=", line):
            name = match.group(1).replace("-", "_")
            group_of[name], words[name] = title, line
        elif line.strip() and words:
            words[next(reversed(words))] += " " + line.strip()
    assert group_of == {name: option.group for name, option in options().items()}
    assert list(dict.fromkeys(group_of.values())) == list(GROUPS)
    for name, option in options().items():
        shown, default = words[name], Config.__dataclass_fields__[name].default
        assert default is None or f"[default: {default}]" in shown
        commands = main.names_of(option.commands)
        assert (option.commands == GROUPS[option.group]) != shown.endswith(f"({commands})")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["-t True", "-l FILE", "--predict PATH"]),
        (["-t", "False"], ["-t True", "-l FILE", "--predict PATH"]),
        (["--no-such-flag", "1"], ["--no-such-flag"]),
        (["-x"], ["-x"]),
        (["-t"], ["-t", "argument"]),
        (["stray"], ["'stray'", "flag"]),
        (["-t", "True", "stray", "-m", "resnet50"], ["'stray'"]),
        (["-m", "efficientnet-b9"], ["--model efficientnet-b9", "resnet50", "did you mean"]),
        (["-m", "efficientnet_b3"], ["did you mean 'efficientnet-b3'?"]),
        (["-d", "gpu"], ["--device gpu", "cuda, cpu"]),
        (["-t", "True", "--epochs", "0"], ["--epochs 0", "at least 1"]),
        (["--epochs", "many"], ["--epochs many", "whole number"]),
        (["-l", "x", "--high-temp", "60"], ["--low-temp 65, --high-temp 60"]),
        (["-l", "no-such.pth"], ["no-such.pth"]),
        (["--resume", "no-such-run"], ["--resume no-such-run"]),
        (["-p", ""], ["--path", "expected a value"]),
        (["--de", "True"], ["ambiguous"]),
        (["--check", "-p", "x", "--epochs", "3"], ["--epochs 3", "--check does not use it"]),
    ],
)
def test_bad_input_is_one_line_that_names_flag_and_value(
    arguments: list[str], words: list[str], capsys: Capture
) -> None:
    line = fails(capsys, *arguments)
    assert all(word in line for word in words)


@pytest.mark.parametrize("text", ["two\nlines", "clear\x1b[2J", "bell\a", "file\udcff.pth"])
def test_an_error_stays_one_harmless_line_whatever_it_quotes(text: str, capsys: Capture) -> None:
    for arguments in (["-m", text], ["--" + text, "1"], ["-l", text], [text]):
        assert fails(capsys, *arguments)[:-1].isprintable()


@pytest.mark.parametrize(
    ("arguments", "launcher", "config"),
    [
        (["-l", "a.pth"], "monitor", Config(load="a.pth")),
        (["-t", "no", "-l", "a.pth", "-w", "0"], "monitor", Config(load="a.pth", workers=0)),
        (["-l", "a", "--predict", "b"], "predictor", Config(load="a", predict="b")),
        (["-t", "True"], "trainer", Config(train=True)),
        (["-t", "True", "-l", "a.pth"], "trainer", Config(train=True, load="a.pth")),
        (["-t", "1", "-m", "ResNet50"], "trainer", Config(train=True, model="resnet50")),
        (["--check", "-p", "x"], "checker", Config(check=True, path="x")),
    ],
)
def test_a_command_goes_to_its_launcher_with_the_flags_over_the_defaults(
    arguments: list[str], launcher: str, config: Config, launched: list[Launch]
) -> None:
    assert main.main(arguments) == 0
    assert launched == [(launcher, config)]


def test_resume_goes_to_the_trainer_with_the_saved_values(
    launched: list[Launch], tmp_path: Path
) -> None:
    (tmp_path / "last.pth").touch()
    (tmp_path / "config.json").write_text('{"batch_size": 3}', encoding="utf-8")
    for also in ([], ["-t", "True"]):
        assert main.main(["--resume", str(tmp_path), "--epochs", "90", *also]) == 0
        launcher, config = launched.pop()
        assert launcher == "trainer" and (config.batch_size, config.epochs) == (3, 90)


@pytest.mark.parametrize("status", [0, 1])
def test_the_status_of_a_launcher_is_the_program_s(monkeypatch: Patch, status: int) -> None:
    make_launcher(monkeypatch, "predictor", status)
    assert main.main(["-l", "ckpt.pth", "--predict", "photos"]) == status


@pytest.mark.parametrize("command", [["-t", "True"], ["-l", "ckpt.pth"]])
def test_cuda_without_a_card_is_an_error_and_no_fall_back(
    command: list[str], monkeypatch: Patch, capsys: Capture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    line = fails(capsys, *command, "-d", "cuda")
    assert "--device cuda" in line and "--device cpu" in line


def test_an_error_of_the_user_is_one_line_and_with_debug_a_traceback(
    monkeypatch: Patch, capsys: Capture, tmp_path: Path
) -> None:
    make_launcher(monkeypatch, "monitor", UserError("x.pth: no checkpoint"))
    assert fails(capsys, "-l", "x.pth") == "error: x.pth: no checkpoint\n"
    (tmp_path / "config.json").write_text('{"debug": true}', encoding="utf-8")
    (tmp_path / "last.pth").touch()
    make_launcher(monkeypatch, "trainer", UserError("x.pth: no checkpoint"))
    resume = ["--resume", str(tmp_path)]
    for arguments in (["-l", "x.pth", "--debug", "yes"], ["--debug", "True"], resume):
        with pytest.raises(UserError):
            main.main(arguments)


def test_an_error_of_the_program_is_not_taken_for_the_user_s(monkeypatch: Patch) -> None:
    make_launcher(monkeypatch, "monitor", ValueError("a bug"))
    with pytest.raises(ValueError, match="a bug"):
        main.main(["-l", "x.pth"])


def test_ctrl_c_ends_with_status_130_and_one_line(monkeypatch: Patch, capsys: Capture) -> None:
    make_launcher(monkeypatch, "trainer", KeyboardInterrupt())
    assert main.main(["-t", "1"]) == 130
    assert capsys.readouterr() == ("", "interrupted\n")
