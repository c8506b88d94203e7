"""Untrusted annotations: which files a data set cannot make the program open.

Each kind of attack is also let through once, with its protection off, to show that the test would
see it.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from data import open_dataset
from data.reading.folder import Folder
from data.reading.image_lookup import ImageIndex
from data.reading.voc_xml import read_voc_xml
from data.remarks import Remarks
from tests.audit import outside, watching
from tests.data_sets import (
    ACE,
    KING,
    coco_content,
    draw_image,
    write_cards,
    write_charlotte,
    write_json,
    write_text,
    write_voc,
    xml_text,
)
from utils.errors import UserError

# --- XML ---

LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
XINCLUDE = "http://www.w3.org/2001/XInclude"
DOCTYPES = {
    "billion laughs": f'[<!ENTITY l0 "ha">{LAUGHS}<!ENTITY e "&l9;">]',
    "one long entity": f'[<!ENTITY e "{"x" * 100_000}">]',
    "a file": '[<!ENTITY e SYSTEM "file://{marker}">]',
    "a public file": '[<!ENTITY e PUBLIC "x" "file://{marker}">]',
    "an address": '[<!ENTITY e SYSTEM "http://127.0.0.1:9/x">]',
    "a parameter": '[<!ENTITY % p SYSTEM "file://{marker}"> %p; <!ENTITY e "ace">]',
    "an unparsed image": '[<!NOTATION n SYSTEM "x"><!ENTITY e SYSTEM "{marker}" NDATA n>]',
    "another document type": 'SYSTEM "file://{marker}"',
}

HARMLESS_UNUSED = ("another document type", "an inclusion")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("used", [True, False])
@pytest.mark.parametrize("kind", [*DOCTYPES, "an inclusion"])
def test_entities_and_external_documents_are_refused_and_their_files_not_read(
    kind: str, used: bool, encoding: str, tmp_path: Path
) -> None:
    marker = write_text(tmp_path / "marker" / "secret.dtd", '<!ENTITY e "ace">')
    text = xml_text([ACE]).replace(">ace<", ">&e;<" if used else ">ace<")
    inclusion = f'<x:include xmlns:x="{XINCLUDE}" href="file://{marker}" parse="text"/>'
    if kind in DOCTYPES:
        doctype = DOCTYPES[kind].replace("{marker}", str(marker))
        text = f"<!DOCTYPE annotation {doctype}>{text}"
    else:
        text = text.replace("<annotation>", f"<annotation>{inclusion}")
    path = write_text(tmp_path / "data" / "a.xml", text, encoding)
    with watching() as opened:
        try:
            names = read_voc_xml(path, Remarks()).objects.annotation(path).names
            assert (
                names == ("ace",) and not used and kind in ("another document type", "an inclusion")
            )
        except UserError as error:
            assert str(error).startswith(f"{path}: ") and len(str(error)) < 1000
    assert [a.path for a in opened] == [os.path.realpath(path)]


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


def xml_stating(stated: str) -> str:
    return xml_text([ACE], stated).replace("C:\\somewhere\\else\\", "")


def flat_stating(inside: Path, stated: str, outside: Path) -> None:
    write_charlotte(inside, TWO)
    write_text(inside / "c.xml", xml_stating(stated))
    link_outwards(inside, outside)


def voc_stating(inside: Path, stated: str, outside: Path) -> None:
    write_voc(inside, {"a": [ACE], "b": [ACE]}, {"train": ["a", "c"], "val": ["b"]})
    write_text(inside / "Annotations" / "c.xml", xml_stating(stated))
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
    content = coco_content(dict.fromkeys(names, [ACE]), {"ace": 1})
    write_json(inside / "annotations" / "instances_train.json", content)
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


def read_everything(folder: Path) -> None:
    """Every image of both splits, or nothing where the data set is refused."""
    try:
        splits = open_dataset(folder)
        for split in (splits.train, splits.validation):
            for index in range(len(split)):
                split[index]
    except UserError as error:
        assert "\n" not in str(error)


@pytest.fixture
def follow_links(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """``read_everything`` without the protection: every link seems to stay in the data set."""

    def read(folder: Path) -> None:
        with monkeypatch.context() as unprotected:
            unprotected.setattr(Folder, "escapes", lambda *_: False)
            read_everything(folder)

    return read


def attacked(layout: str, stated: str, tmp_path: Path) -> Path:
    """A data set that states it, beside a folder with a secret picture and its annotation."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    draw_image(outside / "secret.jpg")
    write_text(outside / "secret.xml", xml_text([ACE], "secret.jpg"))
    LAYOUTS[layout](inside, stated.replace("{outside}", str(outside)), outside)
    return inside


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_stated_path_makes_a_reader_open_anything_outside_of_the_data_set(
    layout: str, tmp_path: Path
) -> None:
    for number, stated in enumerate(STATED):
        inside = attacked(layout, stated, tmp_path / str(number))
        with watching() as opened:
            read_everything(inside)
        assert opened and outside(opened, inside) == [], stated


@pytest.mark.parametrize("layout", ["playing cards", "Charlotte", "COCO"])
def test_the_watch_sees_a_link_that_is_followed_and_a_path_that_is_believed(
    layout: str,
    tmp_path: Path,
    follow_links: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    linked = attacked(layout, "link.jpg", tmp_path / "1")
    with watching() as opened:
        follow_links(linked)
    assert any(a.path.endswith("outside/secret.jpg") for a in outside(opened, linked))

    stated = attacked(layout, "{outside}/secret.jpg", tmp_path / "2")
    secret, find = tmp_path / "2" / "outside" / "secret.jpg", ImageIndex.find

    def believe(self: ImageIndex, path: str) -> Path | None:
        return secret if "secret" in path else find(self, path)

    monkeypatch.setattr(ImageIndex, "find", believe)
    with watching() as opened:
        read_everything(stated)
    assert str(secret.resolve()) in [a.path for a in outside(opened, stated)]


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
    kind: str, tmp_path: Path, follow_links: Callable[[Path], None]
) -> None:
    layout, name = LINKED[kind]
    inside = attacked(layout, "a.jpg", tmp_path)
    moved = tmp_path / "outside" / "moved"
    (inside / name).rename(moved)
    (inside / name).symlink_to(moved, target_is_directory=moved.is_dir())
    with watching() as opened:
        read_everything(inside)
    assert opened and outside(opened, inside) == []
    with watching() as opened:
        follow_links(inside)
    assert outside(opened, inside), "the watch sees a link that is followed"
