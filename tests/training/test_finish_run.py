"""The last lines of a training run."""

from __future__ import annotations

import math

import pytest

from training.finish_run import overfit_verdict


@pytest.mark.parametrize(
    "map_50, verdict",
    [
        (1.0, "the pipeline can learn"),
        (0.9, "the pipeline can learn"),
        (0.6, "is not there yet"),
        (0.1, "does not learn"),
        (0.0, "does not learn"),
        (math.nan, "no verdict"),
    ],
)
def test_overfitting_shows_whether_anything_can_be_learned(map_50: float, verdict: str) -> None:
    line = overfit_verdict(map_50, 8, 900)
    assert verdict in line and "8 images" in line and "\n" not in line


def test_a_short_overfit_is_not_judged_unless_it_has_learned() -> None:
    assert "too short to tell" in overfit_verdict(0.1, 8, 50)
    assert "can learn" in overfit_verdict(0.95, 8, 50)
