"""Untrusted image files: what one cannot make the program do.

One attack is also let through, with its protection off, to show that the test would see it.
"""

from __future__ import annotations

import os
import struct
import tracemalloc
import warnings
import zlib
from pathlib import Path

import pytest
from PIL import EpsImagePlugin, Image, PngImagePlugin
from torchvision.models.detection import RetinaNet

import main
from data.image_files.find import find_images
from data.image_files.read import probe, read_image
from prediction.inference import predict
from tests.conftest import ROOT
from tests.data_sets import ACE, png_chunk, write_cards, write_text
from tests.small_models import build
from utils.errors import UserError


def png(width: int, height: int, *chunks: bytes) -> bytes:
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    rows = png_chunk(b"IDAT", zlib.compress(bytes(4096)))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + rows + png_chunk(b"IEND", b"")


def bmp(width: int, height: int) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 4096, 0, 0, 54) + info + bytes(4096)


def gif(side: int) -> bytes:
    frame = b"," + struct.pack("<HHHHB", 0, 0, side, side, 0)
    return b"GIF89a" + struct.pack("<HHBBB", side, side, 0, 0, 0) + frame + b"\x08\x00;"


def tiff(side: int) -> bytes:
    tags = [(256, 4, side), (257, 4, side), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 200)]
    tags += [(277, 3, 1), (278, 4, side), (279, 4, 4096)]
    rows = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    body = b"II*\x00" + struct.pack("<IH", 8, len(tags)) + rows + bytes(4)
    return body.ljust(200, b"\0") + bytes(4096)


HUGE = 60_000  # pixels of a side
LONG_TEXT = zlib.compress(bytes(20_000_000), 9)
BOMBS = {
    "png": png(HUGE, HUGE),
    "bmp": bmp(HUGE, HUGE),
    "gif": gif(HUGE),
    "tif": tiff(HUGE),
    "ppm": f"P6 {HUGE} {HUGE} 255\n".encode() + bytes(4096),
    "compressed text": png(8, 8, png_chunk(b"zTXt", b"Comment\0\0" + LONG_TEXT)),
    "international text": png(8, 8, png_chunk(b"iTXt", b"Comment\0\1\0\0\0" + LONG_TEXT)),
}
PEAK = 30_000_000  # bytes; the bombs of pixels would take 10 GB


@pytest.fixture(scope="module")
def small_model() -> RetinaNet:
    return build()


@pytest.mark.parametrize("kind", BOMBS)
def test_an_image_far_larger_than_its_file_is_refused_before_it_is_decoded(
    kind: str, small_model: RetinaNet, tmp_path: Path
) -> None:
    """Pixels and texts are counted by the header's claims."""
    path = tmp_path / f"bomb.{kind if len(kind) == 3 else 'png'}"
    path.write_bytes(BOMBS[kind])
    tracemalloc.start()
    with warnings.catch_warnings(), pytest.raises(UserError) as error:
        warnings.simplefilter("ignore")
        read_image(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(error.value).startswith(f"{path}: ") and peak < PEAK
    assert "bomb" in str(error.value).removeprefix(str(path)) or "too large" in str(error.value)
    (one,) = predict(small_model, [path], [str(k) for k in range(6)], score_threshold=0.5)
    assert one.error and not len(one.detections)


def test_the_limits_on_images_are_pillow_s_own() -> None:
    """A module that lifts them for itself lifts them for all."""
    assert Image.MAX_IMAGE_PIXELS == 1024**3 // 4 // 3
    assert PngImagePlugin.MAX_TEXT_CHUNK <= 2**20


POSTSCRIPT = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 64 48
%%EndComments
showpage
%%EOF
"""


@pytest.fixture
def ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ``gs`` that is found first; the file that it writes when it is started."""
    started = tmp_path / "started"
    program = write_text(tmp_path / "bin" / "gs", f"#!/bin/sh\necho $@ >> '{started}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # as before the first search
    return started


def test_an_image_never_starts_a_program(
    ghostscript: Path, small_model: RetinaNet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_cards(tmp_path / "data", {"a.jpg": [ACE]}, {"b.jpg": [ACE]})
    path = folder / "train" / "a.jpg"
    path.write_bytes(POSTSCRIPT)
    for decode in (False, True):
        assert probe(path, decode=decode).error == "not an image in any format that is read"
    with pytest.raises(UserError, match="not an image"):
        read_image(path)
    (one,) = predict(small_model, [path], [str(k) for k in range(6)], score_threshold=0.5)
    assert one.error
    assert main.main(["--check", "-p", str(folder)]) == 2
    assert "a.jpg: not an image" in capsys.readouterr().out
    assert not ghostscript.exists()
    path.with_suffix(".eps").write_bytes(POSTSCRIPT)
    assert find_images(folder / "train", "--predict").others == {".eps": 1}


def test_pillow_starts_a_program_where_every_format_is_allowed(
    ghostscript: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The protection off."""
    (tmp_path / "a.jpg").write_bytes(POSTSCRIPT)
    every_format = tuple(Image.registered_extensions().values())
    monkeypatch.setattr("data.image_files.decode.FORMATS", every_format)
    assert probe(tmp_path / "a.jpg").error
    assert ghostscript.exists()


def test_images_are_opened_in_one_place() -> None:
    """The one that limits the formats. Benchmarks read as the original did."""
    sources = [p.relative_to(ROOT) for p in ROOT.rglob("*.py")]
    product = [p for p in sources if p.parts[0] not in ("tests", "benchmarks", ".venv")]
    opening = [p.as_posix() for p in product if "Image.open(" in (ROOT / p).read_text()]
    assert opening == ["data/image_files/decode.py"]


def test_an_image_with_a_short_compressed_text_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(8, 8, png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"by hand"))))
    assert read_image(path).size == (8, 8)
