"""The command line: flags, errors in one line, and who is launched."""

from __future__ import annotations

import optparse
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import main
from utils.config import MODELS, Config, Option, flag_of, options
from utils.errors import UserError

SEVEN = {
    "path": ("-p", "cards"),
    "device": ("-d", "cpu"),
    "gpu": ("-g", "True"),
    "model": ("-m", "efficientnet-b4"),
    "load": ("-l", "ckpt.pth"),
    "workers": ("-w", "3"),
    "train": ("-t", "True"),
}
BOOLEANS = [n for n, o in options().items() if o.parse.__name__ == "parse_bool"]


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Config]]:
    """(room, config) of every launch; the rooms themselves stay closed."""
    calls: list[tuple[str, Config]] = []
    for room in ("trainer", "monitor", "predict"):

        def launch(config: Config, room: str = room) -> int:
            calls.append((room, config))
            return 0

        monkeypatch.setitem(sys.modules, room, SimpleNamespace(launch=launch))
    return calls


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a failing command prints."""
    assert main.main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ")
    assert err.endswith("\n") and len(err.splitlines()) == 1 and "Traceback" not in err
    return err


def accepted(option: Option) -> str:
    """Some text that the option's parser and check accept."""
    for text in ("True", "1", "0.5", "10", "64", *MODELS, "cpu", "auto", "skip", "text"):
        try:
            value = option.parse(text)
        except ValueError:
            continue
        if option.check is None or option.check(value) is None:
            return text
    raise AssertionError("no text fits")


def test_exactly_the_seven_flags_have_a_short_form_and_stand_first_with_the_other_modes() -> None:
    short = {name: option.short for name, option in options().items() if option.short}
    assert short == {name: flag for name, (flag, _) in SEVEN.items()}
    assert {n for n, o in options().items() if not o.group} == {*SEVEN, "predict", "check"}


@pytest.mark.parametrize("name", SEVEN)
def test_the_short_and_the_long_form_of_a_flag_are_the_same(name: str) -> None:
    short, text = SEVEN[name]
    by_short, by_long = main.read_config([short, text]), main.read_config([f"--{name}", text])
    assert by_short == by_long == Config(**{name: options()[name].parse(text)})
    assert by_short != Config()


@pytest.mark.parametrize("name", BOOLEANS)
@pytest.mark.parametrize(
    ("words", "value"),
    [("true yes 1 TRUE Yes tRuE", True), ("false no 0 FALSE No fAlSe", False)],
)
def test_a_boolean_takes_true_false_yes_no_1_0_in_any_case(
    name: str, words: str, value: bool
) -> None:
    for word in words.split():
        assert getattr(main.read_config([flag_of(name), word]), name) is value


@pytest.mark.parametrize("name", BOOLEANS)
@pytest.mark.parametrize("word", ["maybe", "", "2", "tru", "None"])
def test_any_other_word_for_a_boolean_is_one_line_that_names_the_flag(
    name: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = fails(capsys, flag_of(name), word)
    assert f"{flag_of(name)} {word}" in line and "True or False" in line


@pytest.mark.parametrize("name", options())
def test_every_field_has_a_long_option_in_its_group(name: str) -> None:
    option, parser = options()[name], main.make_parser()
    found = parser.get_option(flag_of(name))
    assert found is not None and found.dest == name
    group = parser.get_option_group(flag_of(name))
    assert (group.title if isinstance(group, optparse.OptionGroup) else "") == option.group
    text = accepted(option)
    # Its own value, and the neighbour's where the two temperatures must keep their order.
    also = ["--low-temp", "0.1"] if name == "high_temp" else []
    if name != "resume":
        assert getattr(main.read_config([flag_of(name), text, *also]), name) == option.parse(text)


def test_a_switch_alone_means_true_wherever_it_stands() -> None:
    for arguments in (["--check", "-p", "x"], ["-p", "x", "--check"], ["--check", "1", "-p", "x"]):
        assert main.read_config(arguments) == Config(check=True, path="x")
    assert not main.read_config(["--check", "False", "-p", "x"]).check


@pytest.mark.parametrize(
    "arguments",
    [["-t", "True"], ["-l", "x.pth"], ["--predict", "x"], ["--resume", "runs/x"]],
)
def test_a_check_goes_with_no_other_work_and_needs_a_data_set(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--check" in (line := fails(capsys, "--check", "-p", "x", *arguments))
    assert "does not go with" in line
    assert "-p" in fails(capsys, "--check")
    assert "goes with --check" in fails(capsys, "-t", "True", "--check-report", "x.json")


def test_help_shows_every_option_with_its_default_under_its_group(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        main.main(["--help"])
    assert end.value.code == 0
    text, err = capsys.readouterr()
    assert err == ""
    place = ""
    where, words = {}, {}
    for line in text.splitlines():
        if match := re.match(r"  (\S.*):$", line):
            place = match.group(1)
        elif match := re.match(r" +(?:-\w \S+, )?--([a-z-]+)=", line):
            name = match.group(1).replace("-", "_")
            where[name], words[name] = place, line
        elif line.strip() and where:
            words[next(reversed(words))] += " " + line.strip()
    assert where == {name: option.group for name, option in options().items()}
    for name, default in ((n, Config.__dataclass_fields__[n].default) for n in options()):
        if default is not None:
            assert f"[default: {default}]" in re.sub(r"\s+", " ", words[name])


def test_with_neither_train_nor_load_the_line_says_what_to_give(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for arguments in ([], ["-t", "False"], ["-p", "cards"]):
        line = fails(capsys, *arguments)
        assert "-t True" in line and "-l FILE" in line and "--predict PATH" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--no-such-flag", "1"], ["--no-such-flag"]),
        (["-x"], ["-x"]),
        (["-t"], ["-t", "argument"]),
        (["stray"], ["'stray'", "flag"]),
        (["-t", "True", "stray", "-m", "resnet50"], ["'stray'"]),
        (["-m", "efficientnet-b9"], ["--model efficientnet-b9", "resnet50", "did you mean"]),
        (["-m", "efficientnet_b3"], ["did you mean 'efficientnet-b3'?"]),
        (["-d", "gpu"], ["--device gpu", "cuda, cpu"]),
        (["--epochs", "0"], ["--epochs 0", "at least 1"]),
        (["--epochs", "many"], ["--epochs many", "whole number"]),
        (["--epochs", "1.5"], ["--epochs 1.5", "whole number"]),
        (["-w", "-1"], ["--workers -1", "at least 0"]),
        (["--batch-size", "0"], ["--batch-size 0"]),
        (["--learning-rate", "nan"], ["--learning-rate nan", "finite"]),
        (["--learning-rate", "0"], ["--learning-rate 0", "more than 0"]),
        (["--image-size", "8"], ["--image-size 8", "64 pixels"]),
        (["--ema-decay", "1"], ["--ema-decay 1", "below 1"]),
        (["--low-temp", "80", "--high-temp", "70"], ["--low-temp 80", "--high-temp 70"]),
        (["--low-temp", "70", "--high-temp", "70"], ["--low-temp 70", "--high-temp 70"]),
        (["--high-temp", "60"], ["--low-temp 65", "--high-temp 60"]),
        (["-l", "no-such.pth"], ["no-such.pth"]),
        (["--resume", "no-such-run"], ["--resume no-such-run"]),
        (["-p", ""], ["--path", "expected a value"]),
        (["--de", "True"], ["ambiguous"]),
    ],
)
def test_bad_input_is_one_line_that_names_flag_and_value(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = fails(capsys, *arguments)
    assert all(word in line for word in words)


@pytest.mark.parametrize("text", ["two\nlines", "clear\x1b[2J", "bell\a", "file\udcff.pth"])
def test_an_error_stays_one_harmless_line_whatever_it_quotes(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["-m", text], ["--" + text, "1"], ["-l", text], [text]):
        line = fails(capsys, *arguments)
        assert line[:-1].isprintable()


def test_debug_shows_the_traceback_of_an_error() -> None:
    with pytest.raises(UserError):
        main.main(["--debug", "True"])


def test_without_train_a_checkpoint_is_monitored_and_not_trained(launched: list[Any]) -> None:
    for train in ([], ["-t", "False"]):
        assert main.main([*train, "-l", "ckpt.pth", "-w", "0"]) == 0
        assert launched.pop() == ("monitor", Config(load="ckpt.pth", workers=0))
    assert not launched


@pytest.mark.parametrize("status", [0, 1])
def test_predict_goes_to_its_room_whose_status_is_the_programs(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    configs = []

    def launch(config: Config) -> int:
        configs.append(config)
        return status

    monkeypatch.setitem(sys.modules, "predict", SimpleNamespace(launch=launch))
    assert main.main(["-l", "ckpt.pth", "--predict", "photos", "-t", "False"]) == status
    assert configs == [Config(load="ckpt.pth", predict="photos")]


def test_predict_without_a_checkpoint_or_beside_a_training_is_one_line(
    launched: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "-l FILE" in fails(capsys, "--predict", "photos")
    for other in (["-t", "True"], ["-t", "True", "-l", "x.pth"], ["--resume", "runs/x"]):
        line = fails(capsys, "--predict", "photos", *other)
        assert "--predict photos" in line and "-t True" in line and "--resume" in line
    assert not launched


def test_train_goes_to_the_trainer_with_and_without_a_checkpoint(launched: list[Any]) -> None:
    for load in ([], ["-l", "ckpt.pth"]):
        assert main.main(["-t", "True", *load]) == 0
        room, config = launched.pop()
        assert room == "trainer" and config.train and (config.load is not None) == bool(load)
    assert not launched


def test_flags_lie_over_the_defaults_of_the_table(launched: list[Any]) -> None:
    main.main(["-t", "yes", "--batch-size", "4", "--learning-rate", "3e-4", "-m", "ResNet50"])
    [(_, config)] = launched
    expected = Config(train=True, batch_size=4, learning_rate=3e-4, model="resnet50")
    assert config == expected and config.epochs == Config().epochs


@pytest.mark.parametrize("what", [["-t", "True"], ["-l", "ckpt.pth"]])
def test_cuda_without_a_card_is_an_error_and_no_fall_back(
    what: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    line = fails(capsys, *what, "-d", "cuda")
    assert "--device cuda" in line and "--device cpu" in line


def test_an_error_of_the_user_in_a_room_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def launch(config: Config) -> None:
        raise UserError(f"{config.load}: no checkpoint")

    monkeypatch.setitem(sys.modules, "monitor", SimpleNamespace(launch=launch))
    assert fails(capsys, "-l", "x.pth") == "error: x.pth: no checkpoint\n"
    with pytest.raises(UserError):
        main.main(["-l", "x.pth", "--debug", "yes"])


def test_an_error_of_the_program_is_not_taken_for_the_user_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def launch(config: Config) -> None:
        raise ValueError("a bug")

    monkeypatch.setitem(sys.modules, "monitor", SimpleNamespace(launch=launch))
    with pytest.raises(ValueError, match="a bug"):
        main.main(["-l", "x.pth"])


def test_ctrl_c_ends_with_status_130_and_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def launch(config: Config) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "trainer", SimpleNamespace(launch=launch))
    assert main.main(["-t", "1"]) == 130
    assert capsys.readouterr() == ("", "interrupted\n")


def test_resume_goes_to_the_trainer_with_the_saved_values(
    launched: list[Any], tmp_path: Path
) -> None:
    (tmp_path / "last.pth").touch()
    (tmp_path / "config.json").write_text('{"batch_size": 3}', encoding="utf-8")
    assert main.main(["--resume", str(tmp_path), "--epochs", "90"]) == 0
    [(room, config)] = launched
    assert room == "trainer" and (config.batch_size, config.epochs) == (3, 90)
