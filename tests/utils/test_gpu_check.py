"""The temperature guard: its decisions on an imagined clock, and in Lightning's loops."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.demos.boring_classes import BoringModel, RandomDataset

from tests.utils.conftest import A, B, Install, calls
from utils.gpu_check import Cooldown, Processes, TemperatureGuard, reader_of
from utils.nvml import TemperatureReader

GAP = [None] * 4
Printed = Callable[[], list[str]]


def test_the_card_watched_is_that_of_the_torch_device(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = [SimpleNamespace(uuid=A), SimpleNamespace(uuid=B)]
    monkeypatch.setattr(torch.cuda, "get_device_properties", cards.__getitem__)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    assert reader_of("cuda:1").uuids == (B,)
    assert reader_of(torch.device("cuda")).uuids == (A,)
    assert reader_of("cpu").uuids == ()


class ScriptedReader(TemperatureReader):
    """Gives these readings, the last one for ever after."""

    def __init__(self, *temperatures: float | None) -> None:
        super().__init__([])
        self.temperatures = list(temperatures)
        self.patience = 200

    def open(self) -> None:
        pass

    def read(self) -> float | None:
        self.patience -= 1
        assert self.patience > 0, "the guard waits for ever"
        now = self.temperatures.pop(0) if len(self.temperatures) > 1 else self.temperatures[0]
        if now is None:
            self.problem = "the sensor is silent"
        return now


class Clock:
    """Imagined seconds and the sleeps that they consist of."""

    def __init__(self) -> None:
        self.sleeps: list[float] = []
        self.interrupted_after = -1  # sleeps

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        if len(self.sleeps) == self.interrupted_after:
            signal.raise_signal(signal.SIGINT)

    def __call__(self) -> float:
        return sum(self.sleeps)

    def cooldown(
        self, *temperatures: float | None, delay: float = 0, cap: float = 100, card: str = ""
    ) -> Cooldown:
        """From 75 to 83 °C; the first reading, of ``start``, is 60. Of a card: through NVML."""
        reader = TemperatureReader([card]) if card else ScriptedReader(60, *temperatures)
        return Cooldown(delay, 83, 75, cap, lambda device: reader, self.sleep, self)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def run(cooldown: Cooldown, batches: int, *processes: Processes) -> Cooldown:
    cooldown.start("cpu", *processes)
    for _ in range(batches):
        cooldown.rest()
    cooldown.finish()
    return cooldown


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    """Gives the guard's lines so far, without the label before each."""

    def lines() -> list[str]:
        output = capsys.readouterr().out.splitlines()
        return [line.split(maxsplit=1)[1] for line in output if line.startswith("guard ")]

    return lines


@pytest.mark.parametrize(
    ("readings", "pauses", "seconds"),
    [
        pytest.param((70, 83, 82, 76, 75, 82, 60), 1, 3, id="until the low temperature"),
        pytest.param((82, 80, 76), 0, 0, id="none between the two temperatures"),
        pytest.param((85, *GAP, 80, *GAP, 75, 60), 1, 10, id="beyond single unknown readings"),
        pytest.param((85, *GAP, None, None), 1, 5, id="until five unknown in a row"),
        pytest.param((None,), 0, 0, id="none without a temperature"),
    ],
)
def test_pauses_and_their_length(
    clock: Clock, readings: tuple[float | None, ...], pauses: int, seconds: float
) -> None:
    cooldown = run(clock.cooldown(*readings), batches=4)
    assert (cooldown.pauses, cooldown.seconds_paused) == (pauses, seconds)


def test_after_every_batch_the_guard_sleeps_in_slices_of_a_second_at_most(clock: Clock) -> None:
    run(clock.cooldown(60, delay=2.5), batches=2)
    assert clock.sleeps == [1, 1, 0.5] * 2


def test_a_pause_is_capped_with_one_warning_and_waits_in_slices(
    clock: Clock, printed: Printed
) -> None:
    run(clock.cooldown(90, cap=10.5), batches=2)
    assert clock.sleeps == ([1] * 10 + [0.5]) * 2
    pausing, capped, summary = printed()
    assert "pausing until 75 °C" in pausing and "WARNING: still above 75 °C" in capped
    assert summary == "2 pause(s), 21 s in total; hottest reading 90 °C."


def test_an_unknown_temperature_is_warned_of_once(clock: Clock, printed: Printed) -> None:
    run(run(clock.cooldown(None), batches=9), batches=9)
    lines = printed()
    assert sum("the sensor is silent" in line for line in lines) == 1
    assert "18 of 18 readings unknown" in lines[-1]


def test_a_termination_signal_ends_a_pause(clock: Clock) -> None:
    terminated = Processes(1, True, list, terminated=lambda: True)
    cooldown = run(clock.cooldown(90), 1, terminated)
    assert (cooldown.pauses, cooldown.seconds_paused) == (1, 0)


def test_only_the_first_process_reports_but_each_warns_of_its_own_card(
    clock: Clock, printed: Printed
) -> None:
    run(clock.cooldown(90, None), 1, Processes(2, False, list, lambda: False))
    [line] = printed()
    assert "the sensor is silent" in line


@pytest.mark.parametrize(
    "limits",
    [(0, 70, 70, 9), (0, 60, 70, 9), (0, math.nan, 70, 9), (-1, 83, 75, 9), (0, 83, 75, 0)],
)
def test_impossible_limits_are_refused(limits: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="expected low_temp below high_temp"):
        Cooldown(*limits)


def test_all_processes_pause_for_the_hottest_card_of_any_of_them(clock: Clock) -> None:
    other = iter([84.0, 80.0, 70.0])

    def reduce(values: torch.Tensor, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "max"
        # A pause compares (time, signal) as well; the other process has the same of these.
        return values if len(values) > 1 else torch.maximum(values, torch.tensor(next(other)))

    trainer: Any = SimpleNamespace(
        world_size=2,
        is_global_zero=True,
        received_sigterm=False,
        strategy=SimpleNamespace(root_device="cpu", reduce=reduce),
    )
    module: Any = None
    cooldown = clock.cooldown(60, None)
    guard = TemperatureGuard(cooldown)
    guard.setup(trainer, module, "fit")
    guard.on_train_batch_end(trainer, module, None, None, 0)
    assert (cooldown.pauses, cooldown.seconds_paused, cooldown.readings_unknown) == (1, 2, 0)


def trainer_with(cooldown: Cooldown) -> pl.Trainer:
    guard = TemperatureGuard(cooldown)
    return pl.Trainer(accelerator="cpu", max_epochs=1, callbacks=[guard], barebones=True)


def batches(count: int) -> torch.utils.data.DataLoader:
    return torch.utils.data.DataLoader(RandomDataset(32, count))


def test_a_training_run_pauses_between_batches_and_validation_is_guarded_too(
    nvml: Install, tmp_path: Path, clock: Clock, printed: Printed
) -> None:
    #                       start | train   | train, pause | validate, pause | later
    nvml(f"card GPU-{B} B 99", f"card GPU-{A} A 60 61 84 80 75 0 90 70 50")
    cooldown = clock.cooldown(delay=0.25, card=A)
    trainer = trainer_with(cooldown)
    trainer.fit(BoringModel(), batches(2), batches(2))
    assert trainer.global_step == 2
    assert clock.sleeps == [0.25, 0.25, 1, 1, 0.25, 0.25, 1]
    assert (cooldown.pauses, cooldown.seconds_paused) == (2, 3)
    lines = printed()
    assert lines[0] == "watching GPU 1 (A), now 60 °C; pauses at 83 °C until 75 °C."
    assert lines[-1].endswith("hottest reading 90 °C; 1 of 7 readings unknown.")

    (tmp_path / "script").write_text(f"card GPU-{A} A 60 95 70\n")
    trainer_with(cooldown).validate(BoringModel(), batches(2), verbose=False)
    assert (cooldown.pauses, cooldown.seconds_paused) == (3, 4)
    assert "3 pause(s), 4 s in total; hottest reading 95 °C" in printed()[-1]
    assert calls(tmp_path, "init") == calls(tmp_path, "shutdown") == 2


def test_ctrl_c_in_a_pause_ends_the_run_at_once_and_gives_nvml_back(
    nvml: Install, tmp_path: Path, clock: Clock, sigint_as_before: None, printed: Printed
) -> None:
    nvml(f"card GPU-{A} A 60 90")
    clock.interrupted_after = 2
    with pytest.raises(SystemExit):
        trainer_with(clock.cooldown(card=A)).fit(BoringModel(), batches(3))
    assert clock.sleeps == [1, 1]
    assert printed()[-1].startswith("1 pause(s), 2 s in total")
    assert calls(tmp_path, "init") == calls(tmp_path, "shutdown") == 1


def test_on_a_cpu_the_guard_warns_once_and_the_run_goes_on(printed: Printed) -> None:
    trainer = trainer_with(Cooldown(0, 83, 75, 100))
    trainer.fit(BoringModel(), batches(3), batches(2))
    assert trainer.global_step == 3
    warning, _ = printed()
    assert warning.startswith("WARNING: the run uses no NVIDIA card")
