"""Interleaved measurements: what shares a machine with others is compared side by side."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping

# Rounds after which memory has been had from the system once and need not be had again.
WARM_UP = 2
Clock = Callable[[], float]


def interleaved(
    works: Mapping[str, Callable[[], object]], repeats: int, clock: Clock = time.perf_counter
) -> dict[str, float]:
    """Median seconds of each. A round runs every work once; the first rounds do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for round_number in range(-WARM_UP, repeats):
        for name, work in works.items():
            gc.collect()
            start = clock()
            work()
            if round_number >= 0:
                seconds[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}
