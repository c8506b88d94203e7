"""Untrusted files: what a data set, a checkpoint, a name or a picture can not make the program do.

Each kind of attack is also let through once, with its protection off, to show that the test would
see it.
"""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import struct
import sys
import tracemalloc
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.models.detection import RetinaNet

import main
from data import open_dataset
from data.image_files.find import find_images
from data.image_files.read import probe, read_image
from data.reading.folder import Folder
from data.reading.image_lookup import ImageIndex
from data.reading.voc_xml import read_voc_xml
from data.remarks import Remarks
from model.checkpoint import DetectorDescription, load_checkpoint, write_whole
from prediction.inference import predict
from tests.conftest import ROOT
from tests.data_sets import ACE, KING, draw_image, write_cards, write_text, write_voc, xml_text
from tests.small_models import SIDE, build
from utils.config import Config
from utils.errors import UserError
from utils.run_folder import read_json, read_metrics, write_json

CPU = ("-d", "cpu", "-w", "0")


class Watch:
    """The files and folders that are opened while it is on; an audit hook cannot be taken off."""

    def __init__(self) -> None:
        self.on = False
        self.opened: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event in ("open", "os.listdir", "os.scandir"):
            path = arguments[0]
            if isinstance(path, (str, bytes, os.PathLike)):
                self.opened.append(os.path.realpath(os.fsdecode(path)))

    def outside(self, folder: Path) -> list[str]:
        """What was opened elsewhere, links resolved; Python's own modules do not count."""
        own = (os.path.realpath(folder), sys.prefix, sys.base_prefix, ROOT)
        return [p for p in self.opened if not any(Path(p).is_relative_to(o) for o in own)]


@pytest.fixture(scope="module")
def the_watch() -> Watch:
    return Watch()


@pytest.fixture
def watch(the_watch: Watch) -> Iterator[Watch]:
    the_watch.opened.clear()
    the_watch.on = True
    yield the_watch
    the_watch.on = False


# --- XML ---

LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
DOCTYPES = {
    "billion laughs": f'<!DOCTYPE annotation [<!ENTITY l0 "ha">{LAUGHS}<!ENTITY e "&l9;">]>',
    "one long entity": f'<!DOCTYPE annotation [<!ENTITY e "{"x" * 100_000}">]>',
    "a file": '<!DOCTYPE annotation [<!ENTITY e SYSTEM "file://{marker}">]>',
    "a public file": '<!DOCTYPE annotation [<!ENTITY e PUBLIC "x" "file://{marker}">]>',
    "an address": '<!DOCTYPE annotation [<!ENTITY e SYSTEM "http://127.0.0.1:9/x">]>',
    "a parameter": (
        '<!DOCTYPE annotation [<!ENTITY % p SYSTEM "file://{marker}"> %p; <!ENTITY e "ace">]>'
    ),
    "an unparsed picture": (
        '<!DOCTYPE annotation [<!NOTATION n SYSTEM "x"><!ENTITY e SYSTEM "{marker}" NDATA n>]>'
    ),
    "another document type": '<!DOCTYPE annotation SYSTEM "file://{marker}">',
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("kind", DOCTYPES)
def test_entities_and_external_documents_are_refused_and_their_files_not_read(
    kind: str, encoding: str, tmp_path: Path, watch: Watch
) -> None:
    marker = write_text(tmp_path / "marker" / "secret.dtd", '<!ENTITY e "ace">')
    text = DOCTYPES[kind].replace("{marker}", str(marker))
    text += xml_text([ACE]).replace(">ace<", ">&e;<")
    path = write_text(tmp_path / "data" / "a.xml", text, encoding)
    watch.opened.clear()
    with pytest.raises(UserError) as error:
        read_voc_xml(path, Remarks())
    assert str(error.value).startswith(f"{path}: ") and len(str(error.value)) < 1000
    assert watch.opened == [os.path.realpath(path)]


def test_an_external_document_type_or_inclusion_without_use_is_not_read_either(
    tmp_path: Path, watch: Watch
) -> None:
    marker = write_text(tmp_path / "marker.dtd", '<!ENTITY e "ace">')
    for text in (
        f'<!DOCTYPE annotation SYSTEM "file://{marker}">' + xml_text([ACE]),
        xml_text([ACE]).replace(
            "<annotation>",
            '<annotation xmlns:xi="http://www.w3.org/2001/XInclude">'
            f'<xi:include href="file://{marker}" parse="text"/>',
        ),
    ):
        path = write_text(tmp_path / "a.xml", text)
        watch.opened.clear()
        try:
            assert read_voc_xml(path, Remarks()).objects.annotation(path).names == ("ace",)
        except UserError as error:
            assert str(path) in str(error)
        assert watch.opened == [os.path.realpath(path)]


# --- paths in annotations ---

TWO = {"a.jpg": [ACE], "b.jpg": [ACE, KING]}
STATED = (
    "../outside/secret.jpg",
    "../../outside/secret.jpg",
    "./../../outside/secret.jpg",
    "..\\..\\outside\\secret.jpg",
    "{outside}/secret.jpg",
    "file://{outside}/secret.jpg",
    "C:\\outside\\secret.jpg",
    "\\\\server\\share\\secret.jpg",
    "..",
    "link.jpg",
    "chain.jpg",
    "relative.jpg",
    "linked/secret.jpg",
    "linked/../secret.jpg",
)


def link_outwards(folder: Path, outside: Path) -> None:
    """Links to the secret picture and to its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "link.jpg").symlink_to(outside / "secret.jpg")
    (folder / "chain.jpg").symlink_to("link.jpg")
    (folder / "relative.jpg").symlink_to(os.path.relpath(outside / "secret.jpg", folder))
    (folder / "linked").symlink_to(outside, target_is_directory=True)


def cards_stating(inside: Path, stated: str, outside: Path) -> None:
    write_cards(inside, TWO, TWO)
    for split in ("train", "test"):
        with open(inside / f"{split}_labels.csv", "a", newline="") as file:
            csv.writer(file).writerow([stated, 64, 48, *ACE])
        link_outwards(inside / split, outside)


def flat_stating(inside: Path, stated: str, outside: Path) -> None:
    for name, things in TWO.items():
        write_text(draw_image(inside / name, things).with_suffix(".xml"), xml_text(things, name))
    text = xml_text([ACE], stated).replace("C:\\somewhere\\else\\", "")
    write_text(inside / "c.xml", text)
    link_outwards(inside, outside)


def voc_stating(inside: Path, stated: str, outside: Path) -> None:
    write_voc(inside, {"a": [ACE], "b": [ACE]}, {"train": ["a", "c"], "val": ["b"]})
    text = xml_text([ACE], stated).replace("C:\\somewhere\\else\\", "")
    write_text(inside / "Annotations" / "c.xml", text)
    link_outwards(inside / "JPEGImages", outside)


def voc_listing(inside: Path, stated: str, outside: Path) -> None:
    listed = stated.removesuffix(".jpg")
    write_voc(inside, {"a": [ACE], "b": [ACE]}, {"train": ["a", listed], "val": ["b", stated]})
    link_outwards(inside / "JPEGImages", outside)
    for name in ("secret", "link", "chain", "relative"):
        (inside / "Annotations" / f"{name}.xml").symlink_to(outside / "secret.xml")
    (inside / "Annotations" / "linked").symlink_to(outside, target_is_directory=True)


def coco_stating(inside: Path, stated: str, outside: Path) -> None:
    names = ["a.jpg", "b.jpg", stated]
    content = {
        "images": [{"id": k, "file_name": name} for k, name in enumerate(names)],
        "annotations": [
            {"id": k, "image_id": k, "category_id": 1, "bbox": [4, 6, 16, 24]} for k in range(3)
        ],
        "categories": [{"id": 1, "name": "ace"}],
    }
    write_text(inside / "annotations" / "instances_train.json", json.dumps(content))
    for name in names[:2]:
        draw_image(inside / "images" / name, [ACE])
    link_outwards(inside / "images", outside)


LAYOUTS = {
    "playing cards": cards_stating,
    "Charlotte": flat_stating,
    "VOC": voc_stating,
    "VOC lists": voc_listing,
    "COCO": coco_stating,
}


def read_everything(folder: Path) -> list[tuple[Tensor, Any]]:
    """Every image of both splits, or nothing where the data set is refused."""
    try:
        splits = open_dataset(folder)
        return [s[i] for s in (splits.train, splits.validation) for i in range(len(s))]
    except UserError as error:
        assert "\n" not in str(error)
        return []


def attacked(layout: str, stated: str, tmp_path: Path) -> Path:
    """A data set that states it, beside a folder with a secret picture and its annotation."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    draw_image(outside / "secret.jpg")
    write_text(outside / "secret.xml", xml_text([ACE], "secret.jpg"))
    LAYOUTS[layout](inside, stated.replace("{outside}", str(outside)), outside)
    return inside


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_stated_path_makes_a_reader_open_anything_outside_of_the_data_set(
    layout: str, tmp_path: Path, watch: Watch
) -> None:
    for number, stated in enumerate(STATED):
        watch.on = False
        inside = attacked(layout, stated, tmp_path / str(number))
        watch.opened.clear()
        watch.on = True
        read_everything(inside)
        assert watch.opened, "the watch sleeps"
        assert watch.outside(inside) == [], stated


@pytest.mark.parametrize("layout", ["playing cards", "Charlotte", "COCO"])
def test_the_watch_sees_a_link_that_is_followed_and_a_path_that_is_believed(
    layout: str, tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The protections off, one after the other."""
    watch.on = False
    linked = attacked(layout, "link.jpg", tmp_path / "1")
    stated = attacked(layout, "{outside}/secret.jpg", tmp_path / "2")
    watch.on = True
    with monkeypatch.context() as off:
        off.setattr(Folder, "escapes", lambda self, entry: False)
        read_everything(linked)
        assert any(p.endswith("outside/secret.jpg") for p in watch.outside(linked))
    watch.opened.clear()
    find = ImageIndex.find
    secret = tmp_path / "2" / "outside" / "secret.jpg"

    def believe(self: ImageIndex, path: str) -> Path | None:
        return secret if "secret" in path else find(self, path)

    monkeypatch.setattr(ImageIndex, "find", believe)
    read_everything(stated)
    assert str(secret.resolve()) in watch.outside(stated)


LINKED = {
    "a CSV": ("playing cards", "train_labels.csv"),
    "the pictures of a CSV": ("playing cards", "train"),
    "an XML file": ("Charlotte", "a.xml"),
    "the XML files": ("VOC", "Annotations"),
    "a list": ("VOC", "ImageSets/Main/train.txt"),
    "the lists": ("VOC", "ImageSets"),
    "a JSON": ("COCO", "annotations/instances_train.json"),
    "the JSONs": ("COCO", "annotations"),
    "the pictures of a JSON": ("COCO", "images"),
}


@pytest.mark.parametrize("kind", LINKED)
def test_annotations_and_folders_that_are_links_outwards_are_not_opened(
    kind: str, tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, name = LINKED[kind]
    watch.on = False
    inside = attacked(layout, "a.jpg", tmp_path)
    moved = tmp_path / "outside" / "moved"
    (inside / name).rename(moved)
    (inside / name).symlink_to(moved, target_is_directory=moved.is_dir())
    watch.on = True
    read_everything(inside)
    assert watch.opened and watch.outside(inside) == []
    monkeypatch.setattr(Folder, "escapes", lambda self, entry: False)
    read_everything(inside)
    assert watch.outside(inside), "the watch sees a link that is followed"


# --- checkpoints ---

DESCRIPTION = DetectorDescription("efficientnet-b0", ("ace", "king"), SIDE, anchor_scale=0.25)


class Calls:
    """Unpickling it calls a function, which leaves a marker."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def attacks(marker: Path) -> dict[str, Any]:
    return {
        "os.mkdir": Calls(os.mkdir, str(marker)),
        "os.system": Calls(os.system, f"mkdir '{marker}'"),
        "eval": Calls(eval, f"__import__('os').mkdir({str(marker)!r})"),
        "exec": Calls(exec, f"import os; os.mkdir({str(marker)!r})"),
        "open": Calls(open, str(marker), "w"),
    }


def content_with(odd: Any, place: str) -> Any:
    """A last.pth that is in order but for one value."""
    plain = DESCRIPTION.as_plain()
    content: dict[Any, Any] = {
        "detector": plain,
        "weights": {"a": torch.zeros(2)},
        "epoch": 4,
        "metrics": {"mAP": 0.5},
        "training": {},
        "optimizer_states": [],
        "callbacks": {},
    }
    if place == "everything":
        return odd
    if place in plain:
        plain[place] = odd
    else:
        content[place] = {"a": odd} if place in ("weights", "metrics", "callbacks") else odd
    return content


PLACES = (
    "everything", "class_names", "data", "image_size", "weights", "epoch", "metrics",
    "optimizer_states", "callbacks", "anything else",
)  # fmt: skip


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line on standard error of a command that is refused."""
    capsys.readouterr()
    assert main.main([str(a) for a in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error[:-1].isprintable(), error
    return error


def run_with(last: bytes, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    write_json({"epochs": Config.epochs}, folder / "config.json")
    (folder / "last.pth").write_bytes(last)
    return folder / "last.pth"


def saved(content: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def every_way_in(path: Path, cards: Path) -> dict[str, tuple[object, ...]]:
    """By the flag that names the file: the commands that load a checkpoint."""
    return {
        "--load": ("-l", path, *CPU),
        "--load FILE --predict": ("-l", path, "--predict", cards / "train", *CPU),
        "-t True --load": ("-t", "True", "-l", path, "-p", cards, *CPU),
        "--resume": ("--resume", path.parent),
        "--backbone-weights": (
            *("-t", "True", "-p", cards, "-m", "efficientnet-b0", "--backbone-weights", path),
            *("--output", path.parent / "runs", *CPU),
        ),
    }


def test_a_checkpoint_that_calls_functions_is_refused_by_every_flag_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cards = write_cards(tmp_path / "cards", TWO, TWO)
    marker = tmp_path / "executed"
    path = run_with(saved(content_with(Calls(os.mkdir, str(marker)), "metrics")), tmp_path / "run")
    for flag, arguments in every_way_in(path, cards).items():
        error = refusal(capsys, *arguments)
        assert flag.split()[0] in error or flag == "-t True --load", flag
        assert str(path) in error and "needs the code of posix.mkdir, which is not run" in error
        assert "weights_only" not in error, "that would be an invitation"
    assert not marker.exists() and not (path.parent / "runs").exists()


@pytest.mark.parametrize("attack", attacks(Path("x")))
def test_no_function_in_a_pickle_is_called_wherever_it_stands(
    attack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker, path = tmp_path / "executed", tmp_path / "evil.pth"
    odd = attacks(marker)[attack]
    pickles = [saved(content_with(odd, place)) for place in PLACES]
    pickles += [saved(odd, _use_new_zipfile_serialization=False)]
    pickles += [pickle.dumps(odd, protocol) for protocol in range(6)]
    for content in pickles:
        path.write_bytes(content)
        with pytest.raises(UserError, match="not a checkpoint of plain tensors and values"):
            load_checkpoint(path)
    assert not marker.exists()
    trusting = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: trusting(*a, **{**k, "weights_only": False}))
    path.write_bytes(pickles[0])
    with pytest.raises(UserError):
        load_checkpoint(path)
    assert marker.exists(), "the attack works where it is let through"


@pytest.mark.parametrize(
    ("place", "odd"),
    [
        ("class_names", "ace"),
        ("class_names", [1, 2]),
        ("class_names", ["ace", "ace"]),
        ("class_names", ["", "king"]),
        ("class_names", ["half\udcff", "king"]),
        ("image_size", "64"),
        ("image_size", 10**9),
        ("image_size", -64),
        ("anchor_scale", float("nan")),
        ("anchor_scale", [1]),
        ("data", "cards"),
        ("weights", 5),
        ("epoch", float("inf")),
        ("epoch", torch.zeros(3)),
        ("training", {"steps": torch.zeros(3)}),
        ("training", {"steps": 10**400}),
    ],
    ids=lambda value: str(value)[:20].encode("ascii", "replace").decode(),
)
def test_a_plain_value_that_makes_no_sense_is_one_line(
    place: str, odd: Any, tmp_path: Path
) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(saved(content_with(odd, place)))
    with pytest.raises(UserError, match="does not describe a detector") as error:
        load_checkpoint(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_resuming_from_what_is_no_run_is_one_line(
    zipped: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = content_with(5, "anything else")
    if zipped:
        del content["epoch"]
    path = run_with(saved(content, _use_new_zipfile_serialization=zipped), tmp_path / "run")
    assert f"--resume {path}" in refusal(capsys, "--resume", path.parent)


def test_starting_from_weights_of_other_shapes_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cards = write_cards(tmp_path / "cards", TWO, TWO)
    weights = {n: torch.zeros(3, 7) for n in DESCRIPTION.build().state_dict()}
    path = tmp_path / "a.pth"
    write_whole({"detector": DESCRIPTION.as_plain(), "weights": weights}, path)
    error = refusal(capsys, "-t", "True", "-l", path, "-p", cards, *CPU)
    assert str(path) in error and "do not fit" in error


def test_the_files_beside_a_checkpoint_are_read_with_messages(tmp_path: Path) -> None:
    for text in ("[" * 100_000, '{"a": ', "\xff", "[1]"):
        (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
        with pytest.raises(UserError, match="config.json"):
            read_json(tmp_path / "config.json")
    for text in ("epoch\nx\n", "epoch\n1,2\n", f"epoch\n{'1' * 200_000}\n", "epoch\n\xff\n"):
        (tmp_path / "metrics.csv").write_bytes(text.encode("latin-1"))
        with pytest.raises(UserError, match="metrics.csv"):
            read_metrics(tmp_path / "metrics.csv")


# --- pictures ---


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(bytes(4096)))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + rows + chunk(b"IEND", b"")


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


SIDE_OF_A_BOMB = 60_000
LONG_TEXT = zlib.compress(bytes(20_000_000), 9)
BOMBS = {
    "png": png(SIDE_OF_A_BOMB, SIDE_OF_A_BOMB),
    "bmp": bmp(SIDE_OF_A_BOMB, SIDE_OF_A_BOMB),
    "gif": gif(SIDE_OF_A_BOMB),
    "tif": tiff(SIDE_OF_A_BOMB),
    "ppm": f"P6 {SIDE_OF_A_BOMB} {SIDE_OF_A_BOMB} 255\n".encode() + bytes(4096),
    "compressed text": png(8, 8, chunk(b"zTXt", b"Comment\0\0" + LONG_TEXT)),
    "international text": png(8, 8, chunk(b"iTXt", b"Comment\0\1\0\0\0" + LONG_TEXT)),
}
PEAK = 30_000_000  # bytes; the bombs of pixels would take 10 GB


@pytest.fixture(scope="module")
def small_model() -> RetinaNet:
    return build()


@pytest.mark.parametrize("kind", BOMBS)
def test_a_picture_that_unpacks_to_far_more_than_it_is_is_refused_before_it_does(
    kind: str, small_model: RetinaNet, tmp_path: Path
) -> None:
    """Pixels and texts are counted by what the header claims."""
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
    assert one.error and not len(one.boxes)


def test_the_limits_on_pictures_are_those_that_pillow_comes_with() -> None:
    """A room that lifts them for itself lifts them for all."""
    from PIL import PngImagePlugin

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
    """A ``gs`` that comes first; the file that it leaves when it is started."""
    from PIL import EpsImagePlugin

    started = tmp_path / "started"
    program = write_text(tmp_path / "bin" / "gs", f"#!/bin/sh\necho $@ >> '{started}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # as before it was looked for
    return started


def test_a_picture_never_starts_a_program(
    ghostscript: Path, small_model: RetinaNet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_cards(tmp_path / "data", TWO, TWO)
    path = folder / "train" / "a.jpg"
    path.write_bytes(POSTSCRIPT)
    for decode in (False, True):
        assert probe(path, decode=decode).error == "not a picture in any format that is read"
    with pytest.raises(UserError, match="not a picture"):
        read_image(path)
    (one,) = predict(small_model, [path], [str(k) for k in range(6)], score_threshold=0.5)
    assert one.error
    assert main.main(["--check", "-p", str(folder)]) == 2
    assert "a.jpg: not a picture" in capsys.readouterr().out
    assert not ghostscript.exists()
    path.with_suffix(".eps").write_bytes(POSTSCRIPT)
    assert find_images(folder / "train").others == {".eps": 1}


def test_pillow_starts_a_program_where_every_format_is_allowed(
    ghostscript: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The protection off."""
    (tmp_path / "a.jpg").write_bytes(POSTSCRIPT)
    monkeypatch.setattr(
        "data.image_files.decode.FORMATS", tuple(Image.registered_extensions().values())
    )
    assert probe(tmp_path / "a.jpg").error
    assert ghostscript.exists()


def test_pictures_are_opened_in_one_place() -> None:
    """Which allows the formats; what the program drew itself it may open elsewhere, and the
    benchmark reads as the original did."""
    sources = [p for p in ROOT.rglob("*.py") if "tests" not in p.parts and ".venv" not in p.parts]
    opening = {p.relative_to(ROOT).as_posix() for p in sources if "Image.open(" in p.read_text()}
    assert opening == {"data/picture_files.py", "images/draw.py", "benchmarks/other_works.py"}


def test_a_picture_beside_the_bomb_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(8, 8, chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"by hand"))))
    assert read_image(path).size == (8, 8)
