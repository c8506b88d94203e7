"""The temperature guard: with the real pynvml on a stub of NVIDIA's library, and in real loops."""

from __future__ import annotations

import ctypes
import importlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from utils.errors import UserError
from utils.gpu_check import TemperatureGuard, watched_uuids
from utils.nvml import TemperatureReader

pynvml = importlib.import_module("pynvml")
STUB = Path(__file__).with_name("nvml_stub.c")
A, B, C = "aaaa-1", "bbbb-2", "cccc-3"
Install = Callable[..., None]


def compile_stub(library: Path, *options: str) -> Path:
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        pytest.skip("no C compiler (cc, gcc, clang) for the stub of the NVML library")
    if not sys.platform.startswith("linux"):
        pytest.skip("the stub stands in for the Linux library libnvidia-ml.so.1")
    subprocess.run([compiler, "-shared", "-fPIC", *options, "-o", library, STUB], check=True)
    return library


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("nvml")
    return {
        "usual": compile_stub(folder / "libnvidia-ml.so.1"),
        "later": compile_stub(folder / "later.so", "-DWITHOUT_PLAIN_TEMPERATURE"),
    }


@pytest.fixture
def nvml(libraries: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts the stub behind pynvml, for one test: ``nvml("card GPU-x Name 60 85", ...)``."""

    def install(*script: str, library: str = "usual") -> None:
        (tmp_path / "script").write_text("\n".join(script) + "\n")
        (tmp_path / "log").write_text("")
        monkeypatch.setenv("NVML_STUB_SCRIPT", str(tmp_path / "script"))
        monkeypatch.setenv("NVML_STUB_LOG", str(tmp_path / "log"))
        monkeypatch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(libraries[library])))
        monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})

    return install


def calls(tmp_path: Path, what: str) -> int:
    return [line.split()[0] for line in (tmp_path / "log").read_text().splitlines()].count(what)


def reading(*uuids: str) -> tuple[float | None, str | None]:
    with TemperatureReader(uuids) as reader:
        return reader.read(), reader.problem


# --- the reader, through pynvml ---


def test_a_card_is_found_by_its_uuid_and_not_by_its_position(nvml: Install) -> None:
    nvml(f"card GPU-{B} Second 80", f"card GPU-{A} First 60")
    with TemperatureReader([A]) as reader:
        assert reader.read() == 60
        assert [str(card) for card in reader.cards] == ["GPU 1 (First)"]
    assert reading(f"GPU-{B}") == (80, None)


def test_of_several_watched_cards_the_hottest_counts_and_others_do_not(nvml: Install) -> None:
    nvml(f"card GPU-{C} C 95", f"card GPU-{B} B 80", f"card GPU-{A} A 60")
    assert reading(A, B) == (80, None)


@pytest.mark.parametrize("bad", ["E15", "E3", "E999", "0", "-1"])
def test_an_error_or_an_impossible_reading_is_unknown_until_the_next_good_one(
    nvml: Install, bad: str
) -> None:
    nvml(f"card GPU-{A} A {bad} 50")
    with TemperatureReader([A]) as reader:
        assert reader.read() is None
        assert reader.problem is not None and "GPU 0 (A)" in reader.problem
        assert reader.read() == 50


@pytest.mark.parametrize("bad", ["E15", "0"])
def test_one_bad_card_does_not_fail_the_others(nvml: Install, bad: str) -> None:
    nvml(f"card GPU-{A} A {bad}", f"card GPU-{B} B 70")
    temperature, problem = reading(A, B)
    assert temperature == 70
    assert problem is not None and "GPU 0 (A)" in problem


def test_a_card_that_nvml_does_not_know_is_unknown_and_the_others_are_read(nvml: Install) -> None:
    nvml(f"card GPU-{B} B 70")
    temperature, problem = reading(A)
    assert temperature is None
    assert problem is not None and A in problem and "Not Found" in problem
    assert reading(A, B)[0] == 70


@pytest.mark.parametrize("uuid", [f"MIG-{A}", A])
def test_a_mig_instance_is_read_from_its_parent(nvml: Install, uuid: str) -> None:
    nvml(f"card GPU-{B} B 50", f"card GPU-{C} C 66", f"mig MIG-{A} 1")
    assert reading(uuid) == (66, None)


def test_a_driver_without_the_deprecated_call_is_read_with_its_successor(nvml: Install) -> None:
    nvml(f"card GPU-{A} A 61", library="later")
    assert reading(A) == (61, None)


def test_a_driver_mismatch_leaves_the_temperature_unknown_with_its_reason(
    nvml: Install, tmp_path: Path
) -> None:
    nvml("init 18", f"card GPU-{A} A 60")
    temperature, problem = reading(A)
    assert temperature is None
    assert problem is not None and "version mismatch" in problem
    assert calls(tmp_path, "shutdown") == 0


def test_a_run_without_cards_and_a_missing_binding_are_reasons_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert reading() == (None, "the run uses no NVIDIA card")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert reading(A) == (None, "the package nvidia-ml-py is not installed")


def test_every_opened_nvml_is_shut_down_once(nvml: Install, tmp_path: Path) -> None:
    nvml(f"card GPU-{A} A 60")
    reader = TemperatureReader([A])
    for _ in range(2):
        reader.open()
        reader.open()
        reader.close()
        reader.close()
        assert reader.read() is None
    assert calls(tmp_path, "init") == calls(tmp_path, "shutdown") == 4


@pytest.mark.parametrize("present", [True, False])
def test_the_system_library_is_loaded_when_a_reader_opens_and_may_be_missing(
    libraries: dict[str, Path], tmp_path: Path, present: bool
) -> None:
    library = tmp_path / "libnvidia-ml.so.1"
    if present:
        shutil.copy(libraries["usual"], library)
    else:
        # An unreadable library ends the search before a real driver of this machine is met.
        library.write_text("no library")
    (tmp_path / "script").write_text(f"card GPU-{A} A 60\n")
    program = (
        "import sys; from utils.nvml import TemperatureReader; reader = TemperatureReader(['"
        f"{A}']); assert 'pynvml' not in sys.modules; reader.open(); "
        "print(reader.read(), reader.problem)"
    )
    stub = {
        "LD_LIBRARY_PATH": str(tmp_path),
        "NVML_STUB_SCRIPT": str(tmp_path / "script"),
        "NVML_STUB_LOG": str(tmp_path / "log"),
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=STUB.parents[1],
        env={**os.environ, **stub},
        capture_output=True,
        text=True,
        check=True,
    )
    missing = "None NVML does not start: NVML Shared Library Not Found"
    assert done.stdout.strip() == ("60.0 None" if present else missing)


def test_the_card_watched_is_that_of_the_torch_device(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = [SimpleNamespace(uuid=A), SimpleNamespace(uuid=B)]
    monkeypatch.setattr(torch.cuda, "get_device_properties", cards.__getitem__)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    assert watched_uuids("cuda:1") == [B]
    assert watched_uuids(torch.device("cuda")) == [A]
    assert watched_uuids("cpu") == []


# --- the guard's decisions, on scripted readings and an imagined clock ---


class ScriptedReader(TemperatureReader):
    """Says what it was told to, the last thing for ever after."""

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


class Rig:
    """A guard from 75 to 83 °C with its surroundings; the first reading is that of ``setup``."""

    def __init__(self, *temperatures: float | None, delay: float = 0, cap: float = 100) -> None:
        self.now = 0.0
        self.sleeps: list[float] = []
        self.lines: list[str] = []
        self.trainer: Any = SimpleNamespace(
            world_size=1, is_global_zero=True, received_sigterm=False
        )
        self.guard = TemperatureGuard(
            delay,
            83,
            75,
            cap,
            say=self.lines.append,
            sleep=self.sleep,
            clock=lambda: self.now,
            make_reader=lambda trainer: ScriptedReader(60, *temperatures),
        )

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.sleeps.append(seconds)

    def run(self, batches: int) -> Rig:
        module: Any = None
        self.guard.setup(self.trainer, module, "fit")
        for index in range(batches):
            self.guard.on_train_batch_end(self.trainer, module, None, None, index)
        self.guard.teardown(self.trainer, module, "fit")
        return self

    def lines_with(self, words: str) -> int:
        return sum(words in line for line in self.lines)


def test_a_rise_and_fall_is_one_pause_that_ends_at_the_low_temperature() -> None:
    rig = Rig(70, 83, 82, 76, 75, 82, 60).run(batches=4)
    assert (rig.guard.pauses, rig.guard.seconds_paused) == (1, 3)
    assert rig.lines[-1] == ("Temperature guard: 1 pause(s), 3 s in total; hottest reading 83 °C.")


def test_between_the_two_temperatures_no_pause_begins() -> None:
    assert Rig(82, 80, 76).run(batches=5).guard.pauses == 0


def test_after_every_batch_the_guard_sleeps_the_delay_in_slices_of_a_second_at_most() -> None:
    assert Rig(60, delay=2.5).run(batches=2).sleeps == [1, 1, 0.5] * 2


def test_a_pause_is_capped_with_one_warning_and_waits_in_slices() -> None:
    rig = Rig(90, cap=10.5).run(batches=2)
    assert (rig.guard.pauses, rig.guard.seconds_paused) == (2, 21)
    assert rig.sleeps == ([1] * 10 + [0.5]) * 2
    assert rig.lines_with("still above 75 °C") == 1
    assert rig.lines_with("pausing until 75 °C") == 1


def test_an_unknown_temperature_never_pauses_and_is_warned_of_once() -> None:
    rig = Rig(None).run(batches=9).run(batches=9)
    assert rig.guard.pauses == 0
    assert rig.lines_with("the sensor is silent") == 1
    assert "18 of 18 readings unknown" in rig.lines[-1]


def test_a_pause_outlives_single_unknown_readings_and_ends_after_five_in_a_row() -> None:
    gaps = [None] * 4
    assert Rig(85, *gaps, 80, *gaps, 75, 60).run(batches=2).guard.seconds_paused == 10
    rig = Rig(85, *gaps, None, None).run(batches=2)
    assert (rig.guard.pauses, rig.guard.seconds_paused) == (1, 5)
    assert rig.lines_with("the sensor is silent") == 1


def test_a_termination_signal_ends_a_pause() -> None:
    rig = Rig(90)
    rig.trainer.received_sigterm = True
    assert rig.run(batches=1).guard.seconds_paused == 0


def test_all_processes_pause_for_the_hottest_card_of_any_of_them() -> None:
    elsewhere = iter([84.0, 80.0, 70.0])

    def reduce(values: torch.Tensor, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "max"
        # A pause asks for (time, signal) as well; the other process has the same of these.
        return values if len(values) > 1 else torch.maximum(values, torch.tensor(next(elsewhere)))

    rig = Rig(60, None)
    rig.trainer.world_size = 2
    rig.trainer.strategy = SimpleNamespace(root_device="cpu", reduce=reduce)
    guard = rig.run(batches=1).guard
    assert (guard.pauses, guard.seconds_paused, guard.readings_unknown) == (1, 2, 0)


def test_only_the_first_process_reports_but_each_warns_of_its_own_card() -> None:
    rig = Rig(90, None)
    rig.trainer.is_global_zero = False
    rig.run(batches=1)
    assert len(rig.lines) == rig.lines_with("the sensor is silent") == 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0, 70, 70, 9), ["--low-temp 70", "--high-temp 70"]),
        ((0, 60, 70, 9), ["--low-temp 70", "--high-temp 60"]),
        ((0, float("nan"), 70, 9), ["--high-temp nan"]),
        ((-1, 83, 75, 9), ["--delay-time -1"]),
        ((0, 83, 75, 0), ["--max-pause amounts to 0 s"]),
    ],
)
def test_impossible_limits_are_refused_by_the_name_of_their_flag(
    values: tuple[float, ...], said: list[str]
) -> None:
    with pytest.raises(UserError) as refusal:
        TemperatureGuard(*values)
    assert all(words in str(refusal.value) for words in said)


# --- in a real training loop, through pynvml ---


class Line(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        return self.layer(batch[0]).square().mean()

    def validation_step(self, batch: list[torch.Tensor], index: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer_with(guard: TemperatureGuard) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        callbacks=[guard],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def batches(count: int) -> torch.utils.data.DataLoader:
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(count, 1)))


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Lightning leaves SIGINT ignored after a Ctrl-C; later tests want it back."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_training_run_pauses_between_batches_and_validation_is_guarded_too(
    nvml: Install, tmp_path: Path
) -> None:
    #                       start | train   | train, pause | validate, pause | later
    nvml(f"card GPU-{B} B 99", f"card GPU-{A} A 60 61 84 80 75 0 90 70 50")
    rig = Rig(delay=0.25)
    guard = TemperatureGuard(
        0.25,
        83,
        75,
        100,
        say=rig.lines.append,
        sleep=rig.sleep,
        clock=lambda: rig.now,
        make_reader=lambda trainer: TemperatureReader([A]),
    )
    trainer = trainer_with(guard)
    trainer.fit(Line(), batches(2), batches(2))
    assert trainer.global_step == 2
    assert rig.sleeps == [0.25, 0.25, 1, 1, 0.25, 0.25, 1]
    assert (guard.pauses, guard.seconds_paused) == (2, 3)
    assert rig.lines[0] == (
        "Temperature guard: watching GPU 1 (A), now 60 °C; pauses at 83 °C until 75 °C."
    )
    assert rig.lines[-1].endswith("hottest reading 90 °C; 1 of 7 readings unknown.")

    (tmp_path / "script").write_text(f"card GPU-{A} A 60 95 70\n")
    trainer_with(guard).validate(Line(), batches(2), verbose=False)
    assert (guard.pauses, guard.seconds_paused) == (3, 4)
    assert "3 pause(s), 4 s in total; hottest reading 95 °C" in rig.lines[-1]
    assert calls(tmp_path, "init") == calls(tmp_path, "shutdown") == 2


def test_ctrl_c_in_a_pause_ends_the_run_at_once_and_gives_nvml_back(
    nvml: Install, tmp_path: Path, interruptible: None
) -> None:
    nvml(f"card GPU-{A} A 60 90")
    rig = Rig()

    def sleep(seconds: float) -> None:
        rig.sleep(seconds)
        if len(rig.sleeps) == 2:
            signal.raise_signal(signal.SIGINT)

    guard = TemperatureGuard(
        0,
        83,
        75,
        100,
        say=rig.lines.append,
        sleep=sleep,
        clock=lambda: rig.now,
        make_reader=lambda trainer: TemperatureReader([A]),
    )
    with pytest.raises(SystemExit):
        trainer_with(guard).fit(Line(), batches(3))
    assert rig.sleeps == [1, 1]
    assert rig.lines[-1].startswith("Temperature guard: 1 pause(s), 2 s in total")
    assert calls(tmp_path, "init") == calls(tmp_path, "shutdown") == 1


def test_on_a_cpu_the_guard_warns_once_and_the_run_goes_on() -> None:
    lines: list[str] = []
    trainer = trainer_with(TemperatureGuard(0, 83, 75, 100, say=lines.append))
    trainer.fit(Line(), batches(3), batches(2))
    assert trainer.global_step == 3
    assert sum("WARNING" in line for line in lines) == 1
    assert "the run uses no NVIDIA card" in lines[0]
