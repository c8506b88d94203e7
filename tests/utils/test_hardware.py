"""Which device and precision are chosen on machines of different abilities."""

from __future__ import annotations

import pytest
import torch

from tests.memory_data import quiet_trainer
from utils import hardware
from utils.errors import UserError
from utils.hardware import Machine, bf16_speedup, choose_device, choose_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("card", [True, False])
def test_by_default_cuda_is_chosen_where_it_is_available(
    card: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: card)
    assert choose_device(None) == (CUDA if card else CPU)
    assert choose_device("cpu") == CPU
    if card:
        assert choose_device("cuda") == CUDA


@pytest.mark.parametrize(
    ("version", "reason"), [(None, "without CUDA"), ("13.0", "no usable card")]
)
def test_cuda_without_a_card_is_an_error_that_says_why(
    version: str | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", version)
    with pytest.raises(UserError, match=f"^--device cuda: .*{reason}.*--device cpu"):
        choose_device("cuda")


@pytest.mark.parametrize("device", [CPU, CUDA])
@pytest.mark.parametrize("requested", ["fp32", "bf16"])
def test_a_requested_precision_is_chosen(requested: str, device: torch.device) -> None:
    assert choose_precision(requested, device) == requested


@pytest.mark.parametrize(
    ("avx512", "amx", "speedup", "expected"),
    [
        (False, False, 9.0, "fp32"),
        (True, False, 3.5, "bf16"),
        (False, True, 9.0, "bf16"),
        (True, False, 2.5, "fp32"),
        (True, True, 0.5, "fp32"),
    ],
)
def test_auto_chooses_bf16_where_the_processor_is_fast_in_it(
    avx512: bool, amx: bool, speedup: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("utils.hardware.bf16_speedup", lambda: speedup)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert choose_precision("auto", CPU) == expected


def test_the_speedup_is_the_ratio_of_the_shortest_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two readings of the clock per convolution, those in fp32 first."""
    moments = iter([0, 9, 0, 8, 0, 6, 0, 8, 0, 7, 0, 9, 0, 4, 0, 5, 0, 3, 0, 2, 0, 4, 0, 9])
    monkeypatch.setattr("utils.hardware.time.perf_counter", lambda: next(moments))
    assert bf16_speedup() == 3


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_chooses_bf16_where_the_card_has_instructions_for_it(
    native: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card that only emulates bf16 is slower with it."""

    def supported(including_emulation: bool = True) -> bool:
        return native or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert choose_precision("auto", CUDA) == expected


@pytest.mark.parametrize(
    ("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)]
)
def test_autocast_is_on_for_bf16_and_off_for_fp32(precision: str, dtype: torch.dtype) -> None:
    machine = Machine(CPU, precision)
    convolution, image = torch.nn.Conv2d(3, 2, 3), torch.rand(1, 3, 8, 8)
    with machine.autocast():
        assert convolution(image).dtype == dtype
    assert convolution(image).dtype == torch.float32


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_trainer_computes_on_the_machine(precision: str) -> None:
    trainer = quiet_trainer(**Machine.choose("cpu", precision).trainer_options())
    assert trainer.strategy.root_device == CPU and trainer.num_devices == 1
    assert trainer.precision == {"fp32": "32-true", "bf16": "bf16-mixed"}[precision]
    assert Machine(CUDA, precision).trainer_options()["accelerator"] == "gpu"


def test_a_machine_names_device_threads_and_precision() -> None:
    assert str(Machine(CPU, "fp32")) == f"cpu, {torch.get_num_threads()} threads, fp32"


@pytest.mark.parametrize("chosen", ["fp32", "bf16"])
def test_kernels_switched_off_where_they_do_not_apply_are_noted(
    chosen: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hardware, "choose_precision", lambda *_: chosen)
    Machine.choose("cpu", "auto", cpu_kernels=False)
    noted = "--cpu-kernels False has no effect" in capsys.readouterr().out
    assert noted == (chosen == "bf16")
