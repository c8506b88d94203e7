"""Files of tensors from anywhere: loaded without running what code they hold."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from utils.errors import UserError, first_line

# How PyTorch's error names the function or class that a file asks for.
_NEEDED_CODE = re.compile(r"\bGLOBAL (\S{1,80})")


def load_plain(path: Path, refusal: str, advice: str, *, mmap: bool = False) -> Any:
    """A file of tensors and plain values, on the CPU; code in it is never run.

    mmap: tensors stay on the disk until they are used. Raises UserError: the refusal, the reason in
    brackets, the advice.
    """
    if not path.stat().st_size:
        raise UserError(f"{refusal} (the file is empty); {advice}.")
    try:
        _refuse_packed(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the version that wrote the file
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:
        # A foreign or cut-off file can stop the unpickler anywhere, with any exception.
        raise UserError(f"{refusal} ({_why_not(error)}); {advice}.") from error


def _refuse_packed(path: Path) -> None:
    """Raise ValueError before a file of a few megabytes unpacks to more than the memory holds."""
    with open(path, "rb") as file:
        if file.read(4) != b"PK\x03\x04":  # torch.load's own test; its older format unpacks nothing
            return
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    stored = all(part.compress_type == zipfile.ZIP_STORED for part in parts)
    if not stored or sum(part.file_size for part in parts) > path.stat().st_size:
        raise ValueError("its parts are compressed, which PyTorch never writes")


def _why_not(error: Exception) -> str:
    """PyTorch's own text would first of all tell how to run the file's code nevertheless."""
    if isinstance(error, zipfile.BadZipFile):
        return "the file is incomplete"
    needed = _NEEDED_CODE.search(str(error))
    if needed:
        return f"it needs the code of {needed[1]}, which is not run"
    if isinstance(error, pickle.UnpicklingError):
        return "it holds more than that, or is no file of PyTorch"
    reason = first_line(error)
    # The central directory is at the end of a PyTorch file.
    return "the file is incomplete" if "central directory" in reason else reason
