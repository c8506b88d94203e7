"""What README.md and docs/ show can be typed: commands, flags, links, targets and Python code."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from main import configure, read_flags
from model import efficient_retinanet
from tests.conftest import ROOT
from tests.predicting import noise, saved, write_checkpoint
from utils.config import Config, options
from utils.options import flag_of

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKED = [*PAGES, ROOT / "benchmarks/README.md"]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = "python main.py"


def blocks(page: Path, language: str = "") -> list[str]:
    return [body for kind, body in FENCE.findall(page.read_text("utf-8")) if kind == language]


def inline_code(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", page.read_text(encoding="utf-8")))


def shell_lines(page: Path) -> list[str]:
    """The lines of code blocks and the code within sentences and tables."""
    return [*(line for block in blocks(page) for line in block.splitlines()), *inline_code(page)]


def main_commands() -> list[list[str]]:
    """The arguments of every ``python main.py`` of every page."""
    lines = [line for page in PAGES for line in shell_lines(page) if line.startswith(COMMAND)]
    return [shlex.split(line, comments=True)[2:] for line in dict.fromkeys(lines)]


def test_the_pages_show_every_command() -> None:
    commands = main_commands()
    assert len(commands) > 20
    for flag in ("-t", "-l", "--predict", "--check", "--resume", "--overfit", "-g"):
        assert any(flag in command for command in commands), flag


@pytest.mark.parametrize("arguments", main_commands(), ids=" ".join)
def test_every_command_is_understood(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "--help" in arguments:
        with pytest.raises(SystemExit) as end:
            read_flags(arguments)
        assert end.value.code == 0
        return
    if "--resume" in arguments:  # reads the run's folder
        run = tmp_path / arguments[arguments.index("--resume") + 1]
        run.mkdir(parents=True)
        (run / "last.pth").touch()
        started = Config(train=True, path="cards", model=run.name)
        (run / "config.json").write_text(json.dumps(started.as_plain()))
        monkeypatch.chdir(tmp_path)
    configure(read_flags(arguments))


@each_page
def test_every_flag_exists(page: Path) -> None:
    known = {"-h", "--help", *map(flag_of, options())}
    known |= {option.short for option in options().values() if option.short}
    spans = [span for span in inline_code(page) if re.match(r"--?[a-z]", span)]
    flags = [word for span in spans for word in span.split() if re.match(r"--?[a-z]", word)]
    assert set(flags) <= known


@each_page
def test_every_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    shown = [re.split(r"\s+#", line)[0] for line in shell_lines(page)]
    commands = [line.split()[1:] for line in shown if re.match(r"make( [a-z]+)+$", line)]
    assert {word for words in commands for word in words} <= targets


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text):
        name, _, anchor = "".join(link).partition("#")
        if name.startswith(("http:", "https:")):
            continue
        target = page.parent / name if name else page
        assert target.is_file(), name
        assert not anchor or anchor in anchors(target), f"{name}#{anchor}"


@pytest.mark.parametrize(
    ("page", "block"), [(page.name, block) for page in PAGES for block in blocks(page, "python")]
)
def test_python_code_runs(
    page: str, block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder with a run and a photo, without ImageNet's weights."""
    for folder in ("runs/efficientnet-b4", "photos"):
        (tmp_path / folder).mkdir(parents=True)
    write_checkpoint(tmp_path / "runs/efficientnet-b4/best.pth")
    saved(tmp_path / "photos/a.jpg", noise(0))
    find = efficient_retinanet.find_backbone_weights
    monkeypatch.setattr(efficient_retinanet, "find_backbone_weights", lambda n, _: find(n, "none"))
    monkeypatch.chdir(tmp_path)
    exec(compile(block, page, "exec"), {})


def test_the_pages_show_flags_targets_links_and_python_code() -> None:
    """The tests above would pass on pages that show nothing."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in LINKED)
    counts = {
        "flags": len([s for page in PAGES for s in inline_code(page) if s.startswith("-")]),
        "targets": len(re.findall(r"\bmake [a-z]+", text)),
        "links": len(re.findall(r"\]\([^)\s]+\)", text)),
        "Python code": sum(len(blocks(page, "python")) for page in PAGES),
    }
    least = {"flags": 50, "targets": 5, "links": 20, "Python code": 3}
    assert {kind: n for kind, n in counts.items() if n < least[kind]} == {}, counts


def test_every_page_of_the_docs_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in PAGES[1:] if f"(docs/{page.name})" not in readme] == []
