"""How long a task will still take, on the screen or, where there is no terminal, in its lines."""

from __future__ import annotations

from time import monotonic

LINE_EVERY = 15.0  # seconds between two lines


class TimeLeft:
    """From the share of a task that is done, and the time that it took, the time that is left.

    share: what was done before, which took time that is not known; 0 to 1.
    """

    def __init__(self, share: float = 0.0) -> None:
        self._share = share
        self._start = self._last_line = monotonic()

    def seconds(self, share: float) -> float | None:
        """Until the whole task is done; None as long as nothing tells."""
        done = share - self._share
        if not done > 0:
            return None
        return (monotonic() - self._start) * max(0.0, 1 - share) / done

    def text(self, share: float) -> str:
        """``about 3 min left``; empty as long as nothing tells."""
        seconds = self.seconds(share)
        return "" if seconds is None else f"about {duration(seconds)} left"

    def line_is_due(self) -> bool:
        """Whether ``LINE_EVERY`` seconds have passed since this was last true."""
        due = monotonic() - self._last_line >= LINE_EVERY
        if due:
            self._last_line = monotonic()
        return due


def duration(seconds: float) -> str:
    """``40 s``, ``3 min``, ``1 h 5 min``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
