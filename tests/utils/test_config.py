"""The table of properties: defaults, flags' texts to values, checks, and runs that go on."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import main
from utils.config import OF_CHECKPOINT, Config, options
from utils.errors import UserError
from utils.options import Budget, Command, flag_of, shown
from utils.resume_config import resumed_config
from utils.run_folder import CONFIG_FILE, write_json

TRAINING = {Command.TRAIN, Command.RESUME}


def changed(value: Any, name: str) -> Any:
    """Another value of the field's type that its check accepts."""
    option = options()[name]
    words = ("no", "yes", "cpu", "resnet50", "fp32", "skip", "x")
    for text in (*words, "128", "0.25", "1", "2", "70", "77"):
        with contextlib.suppress(ValueError, UserError):
            other = option.parse(text)
            if other != value:
                Config(**{name: other})
                return other
    raise AssertionError("no other value fits")


def save_run(folder: Path, **values: Any) -> Config:
    """A run's folder as the trainer writes it."""
    config = Config(**values)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(config.as_plain(), folder / CONFIG_FILE)
    (folder / "last.pth").touch()
    return config


def test_the_defaults_pass_their_own_checks_and_parse_back_from_text() -> None:
    config = Config()
    for name, option in options().items():
        value = getattr(config, name)
        assert value is None or option.parse(str(value)) == value, name


def test_editing_the_default_in_the_table_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclasses.dataclass(frozen=True)
    class Edited(Config):
        epochs: int = dataclasses.field(default=7, metadata={"option": options()["epochs"]})

    monkeypatch.setattr(main, "Config", Edited)
    assert main.configure({"train": True})[1].epochs == 7
    assert "training images [default: 7]" in " ".join(main.make_parser().format_help().split())


@pytest.mark.parametrize(
    ("name", "refused", "accepted"),
    [
        ("epochs", [0], [1]),
        ("batch_size", [0], [1]),
        ("workers", [-1], [0]),
        ("learning_rate", [0.0], [1e-9]),
        ("gradient_clip", [-1.0], [0.0]),
        ("ema_decay", [1.0], [0.0]),
        ("validation_fraction", [0.0, 1.0], [0.9]),
        ("image_size", [63], [64]),
        ("anchor_scale", [0.0], [0.5]),
        ("score_threshold", [1.0], [0.0]),
        ("seed", [-1, 2**31], [2**31 - 1]),
        ("demo_images", [9], [10]),
        ("delay_time", [-0.1], [0.0]),
        ("max_pause", [0.0], [0.1]),
        ("overfit", [-1], [0]),
        ("trainable_layers", [-1], [0]),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_flag(
    name: str, refused: list[Any], accepted: list[Any]
) -> None:
    for value in accepted:
        assert getattr(Config(**{name: value}), name) == value
    for value in refused:
        with pytest.raises(UserError, match=f"^{flag_of(name)} {value:.12g}: expected [^+]*$"):
            Config(**{name: value})


@given(st.floats(1, 200), st.floats(1, 200))
def test_the_pause_ends_below_the_temperature_at_which_it_began(low: float, high: float) -> None:
    if low < high:
        assert Config(low_temp=low, high_temp=high).low_temp == low
    else:
        with pytest.raises(UserError, match="--low-temp.*--high-temp"):
            Config(low_temp=low, high_temp=high)


def test_a_resumed_run_goes_on_with_its_saved_values(tmp_path: Path) -> None:
    saved = save_run(tmp_path, epochs=9, batch_size=3, train=True)
    for place in (tmp_path, tmp_path / "last.pth"):
        resumed = resumed_config({"resume": str(place)})
        assert resumed == dataclasses.replace(saved, resume=str(place))


def test_the_saved_path_gives_way_to_the_one_that_the_checkpoint_remembers(tmp_path: Path) -> None:
    """It may be relative to another folder than the one in which the run goes on."""
    save_run(tmp_path, path="./cards")
    assert resumed_config({"resume": str(tmp_path)}).path is None
    assert resumed_config({"resume": str(tmp_path), "path": "/moved"}).path == "/moved"


def test_a_run_of_before_images_were_cached_keeps_its_folder_of_drawings(tmp_path: Path) -> None:
    saved = {**save_run(tmp_path).as_plain(), "cache": "/drawings"}
    del saved["cache_folder"]
    (tmp_path / CONFIG_FILE).write_text(json.dumps(saved), encoding="utf-8")
    resumed = resumed_config({"resume": str(tmp_path)})
    assert (resumed.cache, resumed.cache_folder) == (True, "/drawings")


RESUMABLE = [n for n, o in options().items() if Command.RESUME in o.commands]
FIXED = [n for n, o in options().items() if {Command.TRAIN} == {*o.commands} & TRAINING]


def test_a_run_may_go_on_elsewhere_and_longer() -> None:
    assert {"path", "device", "workers", "gpu", "epochs", "debug", "max_pause"} <= {*RESUMABLE}
    assert {"model", "batch_size", "learning_rate", "seed", "image_size"} <= {*FIXED}


@pytest.mark.parametrize("name", sorted({*RESUMABLE} - {"resume"}))
def test_where_and_how_a_resumed_run_computes_may_change(name: str, tmp_path: Path) -> None:
    saved = save_run(tmp_path)
    value = changed(getattr(saved, name), name)
    resumed = resumed_config({"resume": str(tmp_path), name: value})
    assert getattr(resumed, name) == value != getattr(saved, name)


@pytest.mark.parametrize("name", sorted({*FIXED} - {*OF_CHECKPOINT}))
def test_what_a_resumed_run_computes_may_not_change(name: str, tmp_path: Path) -> None:
    saved = save_run(tmp_path)
    old, new = getattr(saved, name), changed(getattr(saved, name), name)
    with pytest.raises(UserError) as caught:
        resumed_config({"resume": str(tmp_path), name: new})
    message, was = str(caught.value), "without it" if old is None else f"with {shown(old)}"
    assert f"{flag_of(name)} {shown(new)}" in message and f"started {was}" in message
    same = resumed_config({"resume": str(tmp_path), **({} if old is None else {name: old})})
    assert getattr(same, name) == old


@pytest.mark.parametrize(
    ("name", "value"), [("model", "efficientnet-b4"), ("image_size", 320), ("anchor_scale", 0.5)]
)
def test_what_a_run_left_to_its_checkpoint_is_compared_there(
    name: str, value: Any, tmp_path: Path
) -> None:
    assert name in OF_CHECKPOINT
    save_run(tmp_path)
    assert getattr(resumed_config({"resume": str(tmp_path), name: value}), name) == value
    save_run(tmp_path, **{name: changed(value, name)})
    with pytest.raises(UserError, match=f"^{flag_of(name)} {shown(value)}: .* started with"):
        resumed_config({"resume": str(tmp_path), name: value})


def test_a_resumed_configuration_is_checked_as_a_whole(tmp_path: Path) -> None:
    save_run(tmp_path, low_temp=60.0, high_temp=70.0)
    with pytest.raises(UserError, match="--low-temp 60, --high-temp 55"):
        resumed_config({"resume": str(tmp_path), "high_temp": 55.0})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, CONFIG_FILE),
        ("{", "JSON"),
        ("[1]", "JSON object"),
        ('{"no_such_field": 1}', "another version"),
        ('{"epochs": "many"}', "another version"),
        ('{"crop_pretraining": {"steps": 3}}', "another version"),
        ('{"epochs": 0}', "--epochs 0"),
    ],
)
def test_a_run_whose_configuration_is_unusable_is_one_line(
    content: str | None, words: str, tmp_path: Path
) -> None:
    (tmp_path / "last.pth").touch()
    if content is not None:
        (tmp_path / CONFIG_FILE).write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=words) as caught:
        resumed_config({"resume": str(tmp_path)})
    assert "\n" not in str(caught.value)


def test_the_saved_configuration_is_plain_json(tmp_path: Path) -> None:
    saved = save_run(tmp_path, path="/Käse", crop_pretraining=Budget(steps=400))
    plain = json.loads((tmp_path / CONFIG_FILE).read_text(encoding="utf-8"))
    assert Config.from_plain(plain) == saved
    assert plain["crop_pretraining"] == "400 steps"
    assert Config.from_plain({**plain, "crop_pretraining": "400steps"}) == saved  # of old runs
