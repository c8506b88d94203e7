"""The images of a path that has no annotations: which files count, and in which order."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from data.image_files.find import find_pictures
from tests.noise_images import noise, saved
from utils.errors import UserError


def test_a_folder_gives_its_images_and_those_of_the_folders_in_it(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    expected = ["a.png", "b.JPG", "deep/er/c.tiff", "deep/d.webp", "e f.gif", "g.jp2", "h.mpo"]
    others = ["notes.txt", "deep/labels.xml", "film.mpg", "numbers.h5", "README", "page.pdf"]
    hidden = [".cover.png", "._a.png", ".cache/x.png", "deep/.DS_Store"]
    for name in expected + others + hidden:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "folder.png").mkdir()
    os.mkfifo(root / "pipe.png")
    images = find_pictures(root)
    assert sorted(images.names) == sorted(expected)
    assert sum(images.others.values()) == len(others) + 1 and not images.unlisted
    assert list(images.paths) == sorted(root / name for name in expected)


def test_links_neither_loop_nor_give_an_image_twice(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    saved(root / "z" / "in.png", noise(1))
    saved(elsewhere / "out.png", noise(2))
    saved(tmp_path / "sibling.png", noise(3))
    (root / "a").symlink_to(root / "z")
    (root / "z" / "up").symlink_to(root)
    (root / "z" / "above").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    (root / "link").symlink_to(elsewhere)
    (root / "link2").symlink_to(elsewhere)
    (root / "gone.png").symlink_to(tmp_path / "no-such-file")
    names = find_pictures(root).names
    assert len(names) == 3 and {"z/in.png", "gone.png"} < set(names)
    assert sum(name.startswith("link") for name in names) == 1


def test_a_file_is_an_image_whatever_its_name(tmp_path: Path) -> None:
    for name in ("scan", ".hidden", "x.dat"):
        images = find_pictures(saved(tmp_path / name, noise(1), format="PNG"))
        assert images.names == [name] and images.paths == (tmp_path / name,)


def test_a_folder_that_cannot_be_listed_is_reported_and_the_rest_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "a.png", noise(1))
    (tmp_path / "locked").mkdir()
    scandir = os.scandir

    def guarded(path: str) -> Any:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    images = find_pictures(tmp_path)
    assert images.names == ["a.png"]
    [(folder, reason)] = images.unlisted
    assert folder == str(tmp_path / "locked") and "Permission denied" in reason


def test_a_path_without_images_is_one_line_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match="no pictures .other files: 1 .txt") as error:
        find_pictures(tmp_path)
    assert str(tmp_path) in str(error.value)
    with pytest.raises(UserError, match="no-such.*no such file or folder"):
        find_pictures(tmp_path / "no-such")


def test_other_files_are_counted_by_their_extension(tmp_path: Path) -> None:
    for name in ("a.heic", "b.HEIC", "c.txt", "noext"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"no pictures \(other files: 2 .heic, 1 .txt, 1 no ext"):
        find_pictures(tmp_path)
