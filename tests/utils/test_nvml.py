"""Reading temperatures through the real pynvml, on a stub of NVIDIA's library."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.utils.conftest import A, B, C, Install, calls
from utils.nvml import TemperatureReader


@contextmanager
def reader_on(*uuids: str) -> Iterator[TemperatureReader]:
    reader = TemperatureReader(uuids)
    reader.open()
    yield reader
    reader.close()


def reading(*uuids: str) -> tuple[float | None, str | None]:
    with reader_on(*uuids) as reader:
        return reader.read(), reader.problem


def test_a_card_is_found_by_its_uuid_and_not_by_its_position(nvml: Install) -> None:
    nvml(f"card GPU-{B} Second 80", f"card GPU-{A} First 60")
    with reader_on(A) as reader:
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
    nvml(f"card GPU-{A} A {bad} 50", f"card GPU-{B} B 40")
    with reader_on(A) as reader:
        assert reader.read() is None
        assert reader.problem is not None and "GPU 0 (A)" in reader.problem
        assert reader.read() == 50
    temperature, problem = reading(A, B)
    assert temperature == 40, "one bad card does not fail the others"
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
    program = f"""
import sys
from utils.nvml import TemperatureReader
reader = TemperatureReader(["{A}"])
assert "pynvml" not in sys.modules
reader.open()
print(reader.read(), reader.problem)
"""
    stub = {
        "LD_LIBRARY_PATH": str(tmp_path),
        "NVML_STUB_SCRIPT": str(tmp_path / "script"),
        "NVML_STUB_LOG": str(tmp_path / "log"),
    }
    command, environment = [sys.executable, "-c", program], {**os.environ, **stub}
    output = subprocess.check_output(command, cwd=ROOT, env=environment, text=True)
    missing = "None NVML does not start: NVML Shared Library Not Found"
    assert output.strip() == ("60.0 None" if present else missing)
