"""The temperature guard: ``Cooldown`` for any loop, ``TemperatureGuard`` for Lightning."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch

from utils.console import say
from utils.nvml import TemperatureReader

SLICE = 1.0  # seconds: the longest single sleep, so that Ctrl-C takes effect soon
UNKNOWN_IN_A_ROW = 5  # readings, after which a pause ends


def reader_of(device: torch.device | str) -> TemperatureReader:
    """A reader for a torch device: "cuda" is torch's current card, the CPU has nothing to read."""
    device = torch.device(device)
    if device.type != "cuda":
        return TemperatureReader([])
    index = torch.cuda.current_device() if device.index is None else device.index
    return TemperatureReader([str(torch.cuda.get_device_properties(index).uuid)])


@dataclass(frozen=True)
class Processes:
    """What one process knows of all processes of a run.

    is_first: whether this is the one that reports. maximum: of each value over all processes.
    terminated: whether SIGTERM has arrived, which ends a pause.
    """

    count: int
    is_first: bool
    maximum: Callable[[list[float]], list[float]]
    terminated: Callable[[], bool]


ALONE = Processes(1, True, maximum=list, terminated=lambda: False)


@dataclass(eq=False)
class Cooldown:
    """Lets a card cool down: call ``rest`` after every batch, between ``start`` and ``finish``.

    delay_time: seconds of sleep after every batch. high_temp, low_temp: °C at or above which a
    pause begins, and at or below which it ends. max_pause: seconds; no pause lasts longer (another
    program may be heating the card). The last three fields are there for tests.

    An unknown temperature (no NVML, no card, "not supported", 0 °C, an error) never causes a pause
    and is warned of once. With several processes the hottest card counts and all pause together,
    since one that ran ahead would time out in the next collective operation.

    Raises ValueError when low_temp is not below high_temp or a number of seconds makes no sense.
    """

    delay_time: float
    high_temp: float
    low_temp: float
    max_pause: float
    make_reader: Callable[[torch.device | str], TemperatureReader] = reader_of
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        if not (self.low_temp < self.high_temp and self.delay_time >= 0 and self.max_pause > 0):
            raise ValueError(
                "expected low_temp below high_temp, delay_time of at least 0 and max_pause above "
                f"0: {self}"
            )
        self.pauses = self.readings = self.readings_unknown = 0
        self.seconds_paused, self.hottest = 0.0, -math.inf
        self._processes = ALONE
        self._reader = TemperatureReader([])
        self._started = False
        self._printed: set[str] = set()

    def start(self, device: torch.device | str, processes: Processes = ALONE) -> None:
        """Open NVML for a torch device and print what is watched, or that nothing is."""
        self._reader.close()
        self._processes, self._started = processes, True
        self._reader = self.make_reader(device)
        self._reader.open()
        temperature = self._reader.read()
        self._warn_if_unknown()
        if self._reader.cards:
            cards = ", ".join(map(str, self._reader.cards))
            if processes.count > 1:
                cards += f" and those of {processes.count - 1} more process(es)"
            now = "temperature unknown" if temperature is None else f"now {temperature:.0f} °C"
            limits = f"pauses at {self.high_temp:g} °C until {self.low_temp:g} °C"
            self._print_once("watching", f"watching {cards}, {now}; {limits}.")

    def rest(self) -> None:
        """Sleep ``delay_time`` seconds, then pause while the card is hot."""
        self._sleep_in_slices(self.delay_time)
        temperature = self._read()
        if temperature is None or temperature < self.high_temp:
            return
        limits = f"until {self.low_temp:g} °C (at most {_duration(self.max_pause)})"
        line = f"{temperature:.0f} °C, pausing {limits}; later pauses are summed up at the end."
        self._print_once("pause", line)
        self.pauses += 1
        start = self.clock()
        try:
            self._wait_until_cool(start)
        finally:
            self.seconds_paused += self.clock() - start

    def finish(self) -> None:
        """Print the summary of all runs so far and close NVML; without ``start`` do nothing."""
        if self._started and self._processes.is_first:
            parts = [f"{self.pauses} pause(s), {_duration(self.seconds_paused)} in total"]
            if self.readings > self.readings_unknown:
                parts.append(f"hottest reading {self.hottest:.0f} °C")
            if self.readings_unknown:
                parts.append(f"{self.readings_unknown} of {self.readings} readings unknown")
            say("guard", f"{'; '.join(parts)}.")
        self._started = False
        self._reader.close()

    def _wait_until_cool(self, start: float) -> None:
        unknown = 0  # readings in a row
        while unknown < UNKNOWN_IN_A_ROW:
            values = [self.clock() - start, float(self._processes.terminated())]
            waited, terminated = self._processes.maximum(values)
            if terminated:
                return
            if waited >= self.max_pause:
                self._print_once(
                    "cap",
                    f"WARNING: still above {self.low_temp:g} °C after a pause of "
                    f"{_duration(self.max_pause)}; the run goes on. Look at fans and dust, lower "
                    "the card's power limit, or raise --low-temp or --max-pause.",
                )
                return
            self._sleep_in_slices(min(SLICE, self.max_pause - waited))
            temperature = self._read()
            if temperature is not None and temperature <= self.low_temp:
                return
            unknown = unknown + 1 if temperature is None else 0

    def _sleep_in_slices(self, seconds: float) -> None:
        while seconds > 0:
            self.sleep(min(SLICE, seconds))
            seconds -= SLICE

    def _read(self) -> float | None:
        """The hottest card of all processes in °C, or None; the same answer in every process."""
        temperature = self._reader.read()
        self._warn_if_unknown()
        [hottest] = self._processes.maximum([-math.inf if temperature is None else temperature])
        unknown = hottest == -math.inf
        self.readings += 1
        self.readings_unknown += unknown
        self.hottest = max(self.hottest, hottest)
        return None if unknown else hottest

    def _warn_if_unknown(self) -> None:
        if self._reader.problem is not None:
            goes_on = "An unknown temperature does not pause the run, which goes on."
            self._print_once("unknown", f"WARNING: {self._reader.problem}. {goes_on}")

    def _print_once(self, kind: str, line: str) -> None:
        # Processes other than the first only report an unreadable card of their own.
        if kind not in self._printed and (self._processes.is_first or kind == "unknown"):
            self._printed.add(kind)
            say("guard", line)


class TemperatureGuard(pl.Callback):
    """A ``Cooldown`` that rests after every training and validation batch of a Lightning run."""

    def __init__(self, cooldown: Cooldown) -> None:
        self.cooldown = cooldown

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        device = trainer.strategy.root_device

        def maximum(values: list[float]) -> list[float]:
            tensor = torch.tensor(values, dtype=torch.float32, device=device)
            return torch.as_tensor(trainer.strategy.reduce(tensor, reduce_op="max")).tolist()

        processes = Processes(
            trainer.world_size,
            trainer.is_global_zero,
            maximum if trainer.world_size > 1 else list,
            terminated=lambda: trainer.received_sigterm,
        )
        self.cooldown.start(device, processes)

    def on_train_batch_end(self, *args: Any) -> None:
        self.cooldown.rest()

    def on_validation_batch_end(self, *args: Any) -> None:
        self.cooldown.rest()

    def teardown(self, *args: Any, **more: Any) -> None:
        self.cooldown.finish()

    def on_exception(self, *args: Any) -> None:
        """Lightning leaves ``teardown`` out when a run breaks off."""
        self.cooldown.finish()


def make_guard(requested: bool, limits: tuple[float, float, float, float]) -> list[pl.Callback]:
    """The callbacks of a Trainer: the guard if it is requested. limits: of its ``Cooldown``."""
    return [TemperatureGuard(Cooldown(*limits))] if requested else []


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
