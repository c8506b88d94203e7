"""Which device and precision are taken, as the machine's abilities are played by the test."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch

from utils.errors import UserError
from utils.hardware import Machine, choose_device, choose_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> bool:
    there = bool(request.param)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    return there


with_and_without = pytest.mark.parametrize("card", [True, False], indirect=True)


@with_and_without
def test_by_default_cuda_is_taken_where_there_is_one(card: bool) -> None:
    assert choose_device(None) == (CUDA if card else CPU)
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("card", [True], indirect=True)
def test_cuda_is_taken_when_asked_for(card: bool) -> None:
    assert choose_device("cuda") == CUDA


@pytest.mark.parametrize("card", [False], indirect=True)
@pytest.mark.parametrize(
    ("version", "reason"), [(None, "without CUDA"), ("13.0", "no usable card")]
)
def test_cuda_without_a_card_is_an_error_that_says_why(
    card: bool, version: str | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", version)
    with pytest.raises(UserError, match=f"^--device cuda: .*{reason}.*--device cpu"):
        choose_device("cuda")


@pytest.mark.parametrize("device", [CPU, CUDA])
@pytest.mark.parametrize("asked", ["fp32", "bf16"])
def test_a_precision_that_is_asked_for_is_taken(asked: str, device: torch.device) -> None:
    assert choose_precision(asked, device) == asked


@pytest.mark.parametrize(
    ("avx512", "amx", "expected"),
    [(False, False, "fp32"), (True, False, "bf16"), (False, True, "bf16")],
)
def test_auto_takes_bf16_where_the_processor_computes_it(
    avx512: bool, amx: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert choose_precision("auto", CPU) == expected


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_takes_bf16_where_the_card_computes_it_itself(
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
    options = Machine.choose("cpu", precision).trainer_options()
    trainer = pl.Trainer(
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    assert trainer.strategy.root_device == CPU and trainer.num_devices == 1
    assert trainer.precision == {"fp32": "32-true", "bf16": "bf16-mixed"}[precision]
    assert Machine(CUDA, precision).trainer_options()["accelerator"] == "gpu"


def test_a_machine_says_what_it_is() -> None:
    assert str(Machine(CPU, "fp32")) == f"cpu, {torch.get_num_threads()} threads, fp32"
