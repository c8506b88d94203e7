"""Whether images that cannot be read are left out: the flag, else what the checkpoint remembers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from data.source import DataSource
from tests.data_sets import ACE, KING, write_cards
from utils.errors import UserError


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    folder = write_cards(tmp_path, {f"{i}.jpg": [ACE, KING] for i in range(3)}, {"8.jpg": [ACE]})
    (folder / "train" / "1.jpg").write_bytes(b"")
    return folder


@pytest.mark.parametrize("has_path", [True, False])
@pytest.mark.parametrize(
    ("flag", "remembered", "skips"),
    [(None, False, False), (None, True, True), ("fail", True, False), ("skip", False, True)],
)
def test_a_given_flag_wins_over_what_a_checkpoint_remembers(
    flag: str | None, remembered: bool, skips: bool, has_path: bool, damaged: Path
) -> None:
    data = dataclasses.asdict(DataSource(str(damaged), skip_bad_images=remembered))
    source = DataSource.choose(str(damaged) if has_path else None, data, on_bad_image=flag)
    assert source.skip_bad_images == skips
    if skips:
        assert len(source.open_for_run("unused").train) == 2
    else:
        with pytest.raises(UserError, match=r"1\.jpg: the file is empty"):
            source.open_for_run("unused")


@pytest.mark.parametrize(("flag", "skips"), [(None, False), ("skip", True)])
def test_a_new_training_refuses_unless_the_flag_says_otherwise(
    flag: str | None, skips: bool, damaged: Path
) -> None:
    source = DataSource.choose(str(damaged), on_bad_image=flag, images=1200)
    assert source.skip_bad_images == skips
