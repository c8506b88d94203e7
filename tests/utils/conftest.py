"""NVML for tests: the real pynvml on a stub of NVIDIA's library."""

from __future__ import annotations

import ctypes
import importlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pynvml = importlib.import_module("pynvml")
STUB = Path(__file__).with_name("nvml_stub.c")
A, B, C = "aaaa-1", "bbbb-2", "cccc-3"  # UUIDs
Install = Callable[..., None]


def compile_stub(library: Path, *options: str) -> Path:
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        pytest.skip("no C compiler (cc, gcc, clang) for the stub of the NVML library")
    if not sys.platform.startswith("linux"):
        pytest.skip("the stub stands in for the Linux library libnvidia-ml.so.1")
    subprocess.run([compiler, "-shared", "-fPIC", *options, "-o", library, STUB], check=True)
    return library


@pytest.fixture(scope="session")
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
    """How often a function of the stub was called, by the name in its log."""
    return [line.split()[0] for line in (tmp_path / "log").read_text().splitlines()].count(what)
