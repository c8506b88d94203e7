"""The last lines of a training run."""

from __future__ import annotations

import math

import pytest

from training.finish_run import overfit_verdict


@pytest.mark.parametrize(
    ("map_50", "steps", "verdict"),
    [
        (1.0, 900, "the pipeline can learn"),
        (0.9, 50, "the pipeline can learn"),
        (0.6, 900, "is not there yet"),
        (0.1, 900, "does not learn"),
        (0.1, 50, "too short to tell"),
        (math.nan, 900, "no verdict"),
    ],
)
def test_overfitting_shows_what_can_be_learned(map_50: float, steps: int, verdict: str) -> None:
    line = overfit_verdict(map_50, 8, steps)
    assert verdict in line and "8 images" in line and "\n" not in line
