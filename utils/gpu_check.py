"""The temperature guard: a Lightning callback that lets a hot graphics card cool down."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch

from utils.errors import UserError
from utils.nvml import TemperatureReader

SLICE = 1.0
"""Seconds: the longest single sleep, so that Ctrl-C is never far from being heard."""
UNKNOWN_IN_A_ROW = 5
"""A pause ends after this many unknown readings one after the other."""


def watched_uuids(device: torch.device | str) -> list[str]:
    """The UUID of the card behind a torch device, as torch says it; empty for the CPU.

    "cuda" without an index is torch's current card.
    """
    device = torch.device(device)
    if device.type != "cuda":
        return []
    index = torch.cuda.current_device() if device.index is None else device.index
    return [str(torch.cuda.get_device_properties(index).uuid)]


def reader_of_run(trainer: pl.Trainer) -> TemperatureReader:
    """A reader of the card that this process of the run computes on."""
    return TemperatureReader(watched_uuids(trainer.strategy.root_device))


def print_line(line: str) -> None:
    """The default voice of the guard: standard error, beside the progress bar."""
    print(line, file=sys.stderr, flush=True)


class TemperatureGuard(pl.Callback):
    """After every training and validation batch: sleep, read, and pause while the card is hot.

    delay_time: seconds of sleep after every batch. high_temp: °C; at or above it a pause begins.
    low_temp: °C; at or below it the pause ends, so the card has to cool well below the threshold.
    max_pause: seconds; one pause never lasts longer (a neighbour may be heating the card), the run
    then goes on with a warning.

    An unknown temperature (no NVML, no card, "not supported", 0 °C, an error) never pauses and is
    warned of once. With several processes the hottest card counts and all pause together, since
    one that ran ahead would time out in the next collective operation.

    make_reader, sleep and clock are there for tests; ``say`` receives every line of output.
    Raises UserError when low_temp is not below high_temp or a number of seconds makes no sense.
    """

    def __init__(
        self,
        delay_time: float,
        high_temp: float,
        low_temp: float,
        max_pause: float,
        *,
        say: Callable[[str], None] = print_line,
        make_reader: Callable[[pl.Trainer], TemperatureReader] = reader_of_run,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _refuse_impossible(delay_time, high_temp, low_temp, max_pause)
        self.delay_time = delay_time
        self.high_temp = high_temp
        self.low_temp = low_temp
        self.max_pause = max_pause
        self.pauses = 0
        self.seconds_paused = 0.0
        self.readings = 0
        self.readings_unknown = 0
        self.hottest: float | None = None
        self._say = say
        self._make_reader = make_reader
        self._sleep = sleep
        self._clock = clock
        self._reader: TemperatureReader | None = None
        self._said: set[str] = set()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Open NVML and say what is watched, or that nothing is."""
        self._close()
        self._reader = self._make_reader(trainer)
        self._reader.open()
        temperature = self._reader.read()
        self._warn_if_unknown(trainer)
        if self._reader.cards:
            self._announce(trainer, self._reader, temperature)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self._rest(trainer)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._rest(trainer)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Say what the guard cost, over all the runs it has served, and give NVML back."""
        self._finish(trainer)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """The same as ``teardown``, which Lightning leaves out when a run breaks off."""
        self._finish(trainer)

    def report(self) -> str:
        """One line: the pauses, their time in total, the hottest reading, unknown readings."""
        parts = [f"{self.pauses} pause(s), {_duration(self.seconds_paused)} in total"]
        if self.hottest is not None:
            parts.append(f"hottest reading {self.hottest:.0f} °C")
        if self.readings_unknown:
            parts.append(f"{self.readings_unknown} of {self.readings} readings unknown")
        return f"Temperature guard: {'; '.join(parts)}."

    def _rest(self, trainer: pl.Trainer) -> None:
        self._sleep_in_slices(self.delay_time)
        temperature = self._read(trainer)
        if temperature is not None and temperature >= self.high_temp:
            self._pause(trainer, temperature)

    def _pause(self, trainer: pl.Trainer, temperature: float) -> None:
        self.pauses += 1
        self._say_once(
            trainer,
            "pause",
            (
                f"Temperature guard: {temperature:.0f} °C, pausing until {self.low_temp:g} °C "
                f"(at most {_duration(self.max_pause)}); later pauses are summed up at the end."
            ),
        )
        start = self._clock()
        try:
            self._wait_until_cool(trainer, start)
        finally:
            self.seconds_paused += self._clock() - start

    def _wait_until_cool(self, trainer: pl.Trainer, start: float) -> None:
        unknown_in_a_row = 0
        while unknown_in_a_row < UNKNOWN_IN_A_ROW:
            waited, told_to_stop = self._most(
                trainer, self._clock() - start, float(trainer.received_sigterm)
            )
            if told_to_stop:
                return
            if waited >= self.max_pause:
                self._say_once(
                    trainer,
                    "cap",
                    (
                        f"WARNING: temperature guard: still above {self.low_temp:g} °C after a "
                        f"pause of {_duration(self.max_pause)}; the run goes on. Look at "
                        "fans and dust, lower the card's power limit, or raise --low-temp or "
                        "--max-pause."
                    ),
                )
                return
            self._sleep_in_slices(min(SLICE, self.max_pause - waited))
            temperature = self._read(trainer)
            if temperature is not None and temperature <= self.low_temp:
                return
            unknown_in_a_row = unknown_in_a_row + 1 if temperature is None else 0

    def _sleep_in_slices(self, seconds: float) -> None:
        while seconds > 0:
            self._sleep(min(SLICE, seconds))
            seconds -= SLICE

    def _read(self, trainer: pl.Trainer) -> float | None:
        """The hottest card of all processes in °C, or None; the same answer in every process."""
        mine = None if self._reader is None else self._reader.read()
        self._warn_if_unknown(trainer)
        (hottest,) = self._most(trainer, -math.inf if mine is None else mine)
        self.readings += 1
        if hottest == -math.inf:
            self.readings_unknown += 1
            return None
        self.hottest = hottest if self.hottest is None else max(self.hottest, hottest)
        return hottest

    def _most(self, trainer: pl.Trainer, *values: float) -> tuple[float, ...]:
        """The maximum of each value over all processes, so that all of them decide alike."""
        if trainer.world_size == 1:
            return values
        mine = torch.tensor(values, dtype=torch.float32, device=trainer.strategy.root_device)
        most = trainer.strategy.reduce(mine, reduce_op="max")
        return tuple(torch.as_tensor(most).tolist())

    def _announce(
        self, trainer: pl.Trainer, reader: TemperatureReader, temperature: float | None
    ) -> None:
        cards = ", ".join(str(card) for card in reader.cards)
        if trainer.world_size > 1:
            cards += f" and those of {trainer.world_size - 1} more process(es)"
        now = "temperature unknown" if temperature is None else f"now {temperature:.0f} °C"
        self._say_once(
            trainer,
            "watching",
            (
                f"Temperature guard: watching {cards}, {now}; pauses at "
                f"{self.high_temp:g} °C until {self.low_temp:g} °C."
            ),
        )

    def _warn_if_unknown(self, trainer: pl.Trainer) -> None:
        if self._reader is not None and self._reader.problem is not None:
            self._say_once(
                trainer,
                "unknown",
                (
                    f"WARNING: temperature guard: {self._reader.problem}. An unknown temperature "
                    "does not pause the run, which goes on."
                ),
            )

    def _say_once(self, trainer: pl.Trainer, kind: str, line: str) -> None:
        # A process other than the first has only the trouble of its own card to tell.
        if kind not in self._said and (trainer.is_global_zero or kind == "unknown"):
            self._said.add(kind)
            self._say(line)

    def _finish(self, trainer: pl.Trainer) -> None:
        if self._reader is not None and trainer.is_global_zero:
            self._say(self.report())
        self._close()

    def _close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()


def make_guard(
    wanted: bool,
    delay_time: float,
    high_temp: float,
    low_temp: float,
    max_pause_minutes: float,
    say: Callable[[str, str], None],
) -> list[pl.Callback]:
    """The callbacks of a Trainer: the guard where it is wanted. say: prints (label, text)."""
    if not wanted:
        return []
    return [
        TemperatureGuard(
            delay_time,
            high_temp,
            low_temp,
            60 * max_pause_minutes,
            say=lambda line: say("guard", _without_name(line)),
        )
    ]


def _without_name(line: str) -> str:
    """A line of the guard where "guard" stands in front anyway."""
    return line.replace("WARNING: temperature guard: ", "WARNING: ").removeprefix(
        "Temperature guard: "
    )


def _refuse_impossible(
    delay_time: float, high_temp: float, low_temp: float, max_pause: float
) -> None:
    if not low_temp < high_temp:
        raise UserError(
            f"--low-temp {low_temp:g} is not below --high-temp {high_temp:g}: a pause begins at "
            "the high temperature and ends at the low one (°C); lower --low-temp."
        )
    if not delay_time >= 0:
        raise UserError(f"--delay-time {delay_time:g}: expected seconds, 0 or more.")
    if not max_pause > 0:
        raise UserError(
            f"--max-pause amounts to {max_pause:g} s: expected more than 0; to run without the "
            "guard leave --gpu out."
        )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
