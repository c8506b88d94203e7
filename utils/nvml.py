"""Temperatures of chosen NVIDIA cards, through NVML (module ``pynvml``, package nvidia-ml-py)."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

# NVML's mark for "not available" is -1, which arrives as 4294967295 where a reading is unsigned,
# and a sensor that is asleep says 0: neither is a temperature of silicon that computes.
COLDEST, HOTTEST = 1, 150


@dataclass(frozen=True)
class Card:
    """A watched card: NVML's index and name, NVML's handle."""

    index: int | None
    name: str
    handle: Any

    def __str__(self) -> str:
        return self.name if self.index is None else f"GPU {self.index} ({self.name})"


class TemperatureReader:
    """Reads the temperature, in °C, of exactly the cards with these UUIDs.

    uuids: in torch's form (``torch.cuda.get_device_properties(i).uuid``) or with NVML's prefix
    ("GPU-…", "MIG-…"). Cards are matched by UUID because NVML ignores ``CUDA_VISIBLE_DEVICES`` and
    counts cards in another order than CUDA. A MIG instance has no sensor: its parent is read.

    Nothing here raises when NVML fails: what cannot be read is unknown, and ``problem`` says why.
    ``open`` and ``close`` may be called any number of times, in any order.
    """

    def __init__(self, uuids: Sequence[str]) -> None:
        self.uuids = tuple(uuids)
        self.cards: tuple[Card, ...] = ()
        self.problem: str | None = None
        self._nvml: ModuleType | None = None

    def open(self) -> None:
        """Load NVML and look the cards up; ``problem`` is set when one or all are not found."""
        self.close()
        self.problem = None
        if not self.uuids:
            self.problem = "the run uses no NVIDIA card"
            return
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            self.problem = "the package nvidia-ml-py is not installed"
            return
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            self.problem = f"NVML does not start: {error}"
            return
        self._nvml = nvml
        cards = [self._find(nvml, uuid) for uuid in self.uuids]
        self.cards = tuple(card for card in cards if card is not None)

    def read(self) -> float | None:
        """The hottest of the watched cards in °C; None when no watched card has a known one.

        Sets ``problem`` when a card is unknown; the others count nevertheless.
        """
        if self._nvml is None:
            return None
        readings = [self._read(self._nvml, card) for card in self.cards]
        return max((t for t in readings if t is not None), default=None)

    def close(self) -> None:
        """Give NVML back."""
        nvml, self._nvml, self.cards = self._nvml, None, ()
        if nvml is not None:
            with contextlib.suppress(nvml.NVMLError):
                nvml.nvmlShutdown()

    def _find(self, nvml: ModuleType, uuid: str) -> Card | None:
        try:
            handle = _handle(nvml, uuid)
        except (nvml.NVMLError, AttributeError) as error:
            self.problem = f"NVML does not find the card {uuid}: {error}"
            return None
        index, name = None, uuid
        with contextlib.suppress(nvml.NVMLError, UnicodeDecodeError):
            name = nvml.nvmlDeviceGetName(handle)
            index = nvml.nvmlDeviceGetIndex(handle)
        return Card(index, name, handle)

    def _read(self, nvml: ModuleType, card: Card) -> float | None:
        try:
            reading = _temperature(nvml, card.handle)
        except (nvml.NVMLError, AttributeError) as error:
            self.problem = f"{card} does not report its temperature: {error}"
            return None
        if not COLDEST <= reading <= HOTTEST:
            self.problem = f"{card} reports {reading} °C, which is no temperature of a running card"
            return None
        return float(reading)


def _handle(nvml: ModuleType, uuid: str) -> Any:
    """The handle of the whole card behind ``uuid``. Raises NVMLError when there is none."""
    if uuid.startswith("MIG-"):
        instance = nvml.nvmlDeviceGetHandleByUUID(uuid)
        return nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(instance)
    if uuid.startswith("GPU-"):
        return nvml.nvmlDeviceGetHandleByUUID(uuid)
    # torch leaves the prefix out, and offers no way to learn which of the two it was.
    try:
        return _handle(nvml, f"GPU-{uuid}")
    except nvml.NVMLError as not_a_card:
        try:
            return _handle(nvml, f"MIG-{uuid}")
        except nvml.NVMLError:
            raise not_a_card from None


def _temperature(nvml: ModuleType, handle: Any) -> int:
    """The reading of the die's sensor in °C. Raises NVMLError.

    The plain call is known to every driver, but deprecated; where it is gone (from the driver or
    from pynvml) the versioned one takes its place.
    """
    try:
        return nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
    except (AttributeError, nvml.NVMLError_FunctionNotFound):
        return nvml.nvmlDeviceGetTemperatureV(handle, nvml.NVML_TEMPERATURE_GPU)
