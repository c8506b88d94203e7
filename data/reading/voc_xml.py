"""VOC and LabelImg XML: one file to boxes, names and flags, and many files to records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException

from data.dataset import Annotation
from data.reading.box_parsing import COORDINATES, parse_box, parse_size
from data.reading.folder import read_bytes
from data.reading.image_lookup import ImageIndex, basename
from data.reading.image_objects import ImageObjects
from data.remarks import Remarks, Severity
from utils.errors import UserError


@dataclass(frozen=True)
class VocXml:
    """One annotation file. filename: the last part of what it calls its image, or ""."""

    path: Path
    objects: ImageObjects
    filename: str


def read_voc_xml(path: Path, remarks: Remarks, *, origin: int = 0) -> VocXml:
    """Read one XML file.

    origin: the number of an image's first pixel, 1 in VOC and 0 in LabelImg; see
    ``data.reading.box_parsing.make_box`` for what follows from it. Coordinates are read by tag
    name, decimals are kept; of objects with the same name and box the first stays. The file is
    untrusted: entities and external references are refused (defusedxml). Raises UserError naming
    the file; what is wrong with an object is an error of ``remarks`` that names it.
    """
    root = _parse(path)
    size = parse_size(root.findtext("size/width"), root.findtext("size/height"))
    objects = ImageObjects(str(path), size)
    for number, element in enumerate(root.findall("object"), start=1):
        name = (element.findtext("name") or "").strip()
        where = f"{path}, object {number} {name!r}"
        with remarks.catch_errors():
            if not name:
                raise UserError(f"{where}: the object has no <name>; give it a class.")
            corners = _coordinates(element, where)
            box = parse_box(corners, where, remarks, size=size, origin=origin)
            flag = (element.findtext("difficult") or "").strip().lower()
            difficult = flag in ("1", "true", "yes")
            if box is not None and not objects.add(name, box, difficult):
                remarks.count("duplicate objects, removed", where)
    if size is None and objects.rows:
        remarks.count(
            "annotation files that state no size of their image, or 0; the image's own is used",
            str(path),
            Severity.NOTE,
        )
    return VocXml(path, objects, basename(root.findtext("filename") or ""))


def match_images(files: Sequence[VocXml], images: ImageIndex, remarks: Remarks) -> list[Annotation]:
    """One record for each file that has an image, in the files' order.

    The file's own stem decides, then the name it states: files are renamed together more often
    than their contents are corrected. An image belongs to one file only. A file whose image is
    missing counts as a bad image.
    """
    image_of: dict[Path, Path] = {}
    taken: set[Path] = set()
    for by_stem in (True, False):
        for file in files:
            if file.path in image_of:
                continue
            image = (
                images.find_by_stem(file.path.stem, file.filename)
                if by_stem
                else images.find(file.filename)
            )
            if image is not None and image not in taken:
                image_of[file.path] = image
                taken.add(image)
    for file in files:
        if file.path not in image_of:
            stated = f"{file.path} (image {file.filename or 'not named'})"
            remarks.count("annotation file(s) without their image", stated, Severity.BAD_IMAGE)
    return [file.objects.annotation(image_of[file.path]) for file in files if file.path in image_of]


def read_annotations(
    paths: Iterable[Path], images: ImageIndex, remarks: Remarks, *, origin: int
) -> list[Annotation]:
    """``read_voc_xml`` for every file, then ``match_images``."""
    files = []
    for path in paths:
        with remarks.catch_errors():
            files.append(read_voc_xml(path, remarks, origin=origin))
    return match_images(files, images, remarks)


def _parse(path: Path) -> Element:
    # From bytes: the XML declaration, not the locale, says in which encoding the file is.
    raw = read_bytes(path)
    try:
        root: Element = defusedxml.ElementTree.fromstring(raw)
    except DefusedXmlException as error:
        raise UserError(
            f"{path}: the XML declares entities ({error}), which an annotation has no "
            "use for and which are not read; remove them."
        ) from error
    except (ParseError, ValueError, LookupError) as error:
        raise UserError(
            f"{path}: not readable as XML ({error}); save it as UTF-8 XML, restore "
            "it or remove it together with its image."
        ) from error
    if root.tag != "annotation":
        raise UserError(
            f"{path}: the root element is <{root.tag}>; expected <annotation>, as "
            "LabelImg and VOC write it. Remove the file if it is something else."
        )
    return root


def _coordinates(element: Element, where: str) -> dict[str, str | None]:
    box = element.find("bndbox")
    if box is None:
        raise UserError(f"{where}: the object has no <bndbox>; draw its box or remove it.")
    return {tag: box.findtext(tag) for tag in COORDINATES}
