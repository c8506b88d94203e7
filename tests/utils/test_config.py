"""The table of properties: defaults, flags' texts to values, checks, and runs that go on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils import config as config_module
from utils.config import (
    MODELS,
    Config,
    flag_of,
    one_of,
    options,
    parse_bool,
    parse_float,
    parse_int,
    parse_text,
)
from utils.errors import UserError
from utils.resume_config import MAY_CHANGE, resumed_config
from utils.run_folder import CONFIG_FILE, write_json


def changed(value: Any, name: str) -> Any:
    """Another value of the field's type that its check accepts."""
    option = options()[name]
    candidates = (not value,) if isinstance(value, bool) else ("x", 64, 0.25, 1, 2, 3.5, 70.0, 77.0)
    for other in candidates:
        try:
            if option.parse(str(other)) != value:
                Config(**{name: option.parse(str(other))})
                return option.parse(str(other))
        except (ValueError, UserError):
            continue
    words = {"device": "cpu", "model": "resnet50", "precision": "fp32", "on_bad_image": "skip"}
    return words[name]


def save_run(folder: Path, **values: Any) -> Config:
    """A run's folder as the trainer writes it."""
    config = Config(**values)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(dataclasses.asdict(config), folder / CONFIG_FILE)
    (folder / "last.pth").touch()
    return config


def test_the_defaults_pass_their_own_checks_and_parse_back_from_text() -> None:
    config = Config()
    for name, option in options().items():
        value = getattr(config, name)
        assert value is None or option.parse(str(value)) == value, name


def test_every_field_has_an_option_with_help() -> None:
    assert list(options()) == [field.name for field in dataclasses.fields(Config)]
    assert all(option.help.strip() for option in options().values())


def test_the_eight_efficientnets_and_the_original_are_known() -> None:
    assert list(MODELS) == [*(f"efficientnet-b{i}" for i in range(8)), "resnet50"]


def test_given_values_lie_over_the_defaults() -> None:
    merged = Config.merged({"epochs": 3, "path": "cards"})
    assert (merged.epochs, merged.path) == (3, "cards")
    assert dataclasses.replace(merged, epochs=Config().epochs, path=None) == Config()


def test_editing_the_default_in_the_table_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table's file with another number in it, and nothing else changed."""
    source = Path(config_module.__file__).read_text(encoding="utf-8")
    line = '40, "passes over the training images"'
    assert source.count(line) == 1
    names: dict[str, Any] = {"__name__": "utils.config"}
    exec(compile(source.replace(line, line.replace("40", "7")), "config", "exec"), names)
    assert names["Config"]().epochs == 7

    import main

    monkeypatch.setattr(main, "Config", names["Config"])
    monkeypatch.setattr(main, "options", names["options"])
    assert main.read_config([]).epochs == 7
    assert "training images [default: 7]" in " ".join(main.make_parser().format_help().split())


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().epochs = 3  # type: ignore[misc]


@given(st.sampled_from(["true", "yes", "1", "false", "no", "0"]), st.data())
def test_booleans_ignore_case_and_blanks(word: str, data: st.DataObject) -> None:
    mixed = "".join(data.draw(st.sampled_from([c.lower(), c.upper()])) for c in word)
    assert parse_bool(f" {mixed} ") is (word in ("true", "yes", "1"))


@pytest.mark.parametrize("text", ["", "t", "on", "2", "True False", "None", "-1", "1.0"])
def test_no_other_text_is_a_boolean(text: str) -> None:
    with pytest.raises(ValueError, match="True or False"):
        parse_bool(text)


@pytest.mark.parametrize("text", ["", "1.5", "x", "1e3", "inf", "0x10"])
def test_a_whole_number_is_one(text: str) -> None:
    assert parse_int(" 12 ") == 12 and parse_int("-3") == -3
    with pytest.raises(ValueError, match="whole number"):
        parse_int(text)


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "-inf", "1e999", "1,5"])
def test_a_number_is_finite(text: str) -> None:
    assert parse_float("1e-3") == 1e-3 and parse_float("2") == 2.0
    with pytest.raises(ValueError, match="number"):
        parse_float(text)


@pytest.mark.parametrize("text", ["", " ", "\t\n"])
def test_a_text_is_not_empty(text: str) -> None:
    assert parse_text(" my cards ") == " my cards "
    with pytest.raises(ValueError, match="expected a value"):
        parse_text(text)


def test_a_choice_ignores_case_and_a_wrong_one_is_answered_with_the_nearest() -> None:
    parse = one_of("apple", "pear")
    assert parse(" Apple") == "apple"
    with pytest.raises(ValueError, match=r"one of apple, pear \(did you mean 'apple'\?\)"):
        parse("aple")
    with pytest.raises(ValueError, match="one of apple, pear$"):
        parse("zzz")


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("epochs", 0, False),
        ("epochs", 1, True),
        ("batch_size", 0, False),
        ("workers", -1, False),
        ("workers", 0, True),
        ("learning_rate", 0.0, False),
        ("learning_rate", 1e-9, True),
        ("gradient_clip", 0.0, True),
        ("gradient_clip", -1.0, False),
        ("ema_decay", 0.0, True),
        ("ema_decay", 1.0, False),
        ("validation_fraction", 0.0, False),
        ("validation_fraction", 0.9, True),
        ("validation_fraction", 1.0, False),
        ("image_size", 63, False),
        ("image_size", 64, True),
        ("anchor_scale", 0.0, False),
        ("score_threshold", 0.0, True),
        ("score_threshold", 1.0, False),
        ("seed", -1, False),
        ("seed", 2**31 - 1, True),
        ("seed", 2**31, False),
        ("demo_images", 9, False),
        ("delay_time", -0.1, False),
        ("max_pause", 0.0, False),
        ("overfit", -1, False),
        ("trainable_layers", -1, False),
        ("trainable_layers", 0, True),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_flag(
    name: str, value: Any, accepted: bool
) -> None:
    if accepted:
        assert getattr(Config(**{name: value}), name) == value
    else:
        with pytest.raises(UserError, match=f"^{flag_of(name)} {value}: expected"):
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
    saved = {**dataclasses.asdict(save_run(tmp_path)), "cache": "/drawings"}
    del saved["cache_folder"]
    (tmp_path / CONFIG_FILE).write_text(json.dumps(saved), encoding="utf-8")
    resumed = resumed_config({"resume": str(tmp_path)})
    assert (resumed.cache, resumed.cache_folder) == (True, "/drawings")


def test_a_run_may_go_on_elsewhere_and_longer() -> None:
    assert {"path", "device", "workers", "gpu", "epochs", "debug", "max_pause"} <= MAY_CHANGE
    assert not MAY_CHANGE & {"model", "batch_size", "learning_rate", "seed", "image_size"}


@pytest.mark.parametrize("name", sorted(MAY_CHANGE - {"resume"}))
def test_where_and_how_a_resumed_run_computes_may_change(name: str, tmp_path: Path) -> None:
    saved = save_run(tmp_path)
    value = changed(getattr(saved, name), name)
    resumed = resumed_config({"resume": str(tmp_path), name: value})
    assert getattr(resumed, name) == value != getattr(saved, name)


@pytest.mark.parametrize("name", [n for n in options() if n not in MAY_CHANGE])
def test_what_a_resumed_run_computes_may_not_change(name: str, tmp_path: Path) -> None:
    saved = save_run(tmp_path)
    old, new = getattr(saved, name), changed(getattr(saved, name), name)
    with pytest.raises(UserError) as caught:
        resumed_config({"resume": str(tmp_path), name: new})
    message = str(caught.value)
    assert f"{flag_of(name)} {new}" in message and f"started with {old}" in message
    same = resumed_config({"resume": str(tmp_path), **({} if old is None else {name: old})})
    assert getattr(same, name) == old


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
    saved = save_run(tmp_path, path="/Käse", device="cpu")
    assert Config(**json.loads((tmp_path / CONFIG_FILE).read_text(encoding="utf-8"))) == saved
