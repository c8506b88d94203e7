"""The images of a path that has no annotations: which files count, and in which order."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from data.image_files.find import find_images
from utils.errors import UserError


def touch(folder: Path, *names: str) -> None:
    """Empty files: none is opened."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_a_folder_gives_its_images_and_those_of_the_folders_in_it(tmp_path: Path) -> None:
    expected = ["a.png", "b.JPG", "deep/d.webp", "deep/er/c.tiff", "e f.gif", "g.jp2", "h.mpo"]
    others = ["notes.txt", "deep/labels.xml", "film.mpg", "numbers.h5", "README", "page.pdf"]
    touch(tmp_path, *expected, *others, ".cover.png", "._a.png", ".cache/x.png", "deep/.DS_Store")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    images = find_images(tmp_path, "--predict")
    assert images.names == expected and not images.unlisted
    assert sum(images.others.values()) == len(others) + 1
    assert list(images.paths) == [tmp_path / name for name in expected]


def test_links_neither_loop_nor_give_an_image_twice(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    touch(tmp_path, "photos/z/in.png", "elsewhere/out.png", "sibling.png")
    (root / "a").symlink_to(root / "z")
    (root / "z" / "up").symlink_to(root)
    (root / "z" / "above").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    (root / "link").symlink_to(elsewhere)
    (root / "link2").symlink_to(elsewhere)
    (root / "gone.png").symlink_to(tmp_path / "no-such-file")
    names = find_images(root, "--predict").names
    assert len(names) == 3 and {"z/in.png", "gone.png"} < set(names)
    assert sum(name.startswith("link") for name in names) == 1


@pytest.mark.parametrize("name", ["scan", ".hidden", "x.dat"])
def test_a_file_is_an_image_whatever_its_name(name: str, tmp_path: Path) -> None:
    touch(tmp_path, name)
    images = find_images(tmp_path / name, "--predict")
    assert images.names == [name] and images.paths == (tmp_path / name,)


def test_a_folder_that_cannot_be_listed_is_reported_and_the_rest_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.png", "locked/b.png")
    scandir = os.scandir

    def guarded(path: str) -> Any:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    images = find_images(tmp_path, "--predict")
    assert images.names == ["a.png"]
    [(folder, reason)] = images.unlisted
    assert folder == str(tmp_path / "locked") and "Permission denied" in reason


def test_a_path_without_images_is_one_line_that_counts_the_others(tmp_path: Path) -> None:
    touch(tmp_path, "a.heic", "b.HEIC", "c.txt", "noext")
    others = r"no images \(other files: 2 .heic, 1 .txt, 1 no ext"
    with pytest.raises(UserError, match=others) as error:
        find_images(tmp_path, "--predict")
    assert str(error.value).startswith(f"--predict {tmp_path}: ")
    with pytest.raises(UserError, match="no-such.*no such file or folder"):
        find_images(tmp_path / "no-such", "--predict")
