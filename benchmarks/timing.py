"""Interleaved measurements: what shares a machine with others is compared side by side."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping

Clock = Callable[[], float]


def interleaved(
    works: Mapping[str, Callable[[], object]], repeats: int, clock: Clock = time.perf_counter
) -> dict[str, float]:
    """Median seconds of each. A round runs every work once; the first round does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for round_number in range(repeats + 1):
        for name, work in works.items():
            gc.collect()
            start = clock()
            work()
            if round_number:
                seconds[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}
