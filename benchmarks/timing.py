"""Interleaved measurements: whatever else uses the machine disturbs all candidates alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping

# Rounds in which memory is taken from the system for the first time: they are not counted.
WARM_UP = 2
Clock = Callable[[], float]


def interleaved(
    works: Mapping[str, Callable[[], object]], repeats: int, clock: Clock = time.perf_counter
) -> dict[str, float]:
    """Median seconds of each. A round runs every work once; the first rounds are not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for round_number in range(-WARM_UP, repeats):
        for name, work in works.items():
            gc.collect()
            start = clock()
            work()
            if round_number >= 0:
                seconds[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}
