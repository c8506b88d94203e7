"""The words of the field are used: none of the project's former private words is left."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.repository import repository_files

WORDS = set(
    ["surest", "excused", "sized", "told", "said", "asked", "nobody", "rightly", "worth", "turn"]
)
PHRASES = ["images a step", "names given at random", "found under their name", "an odd layer"]
SUFFIXES = {".py", ".md", ".html", ".toml", ".txt", ".c"}
# A word, or a hump of an identifier: "AskedThreshold", "URLText" and "asked_threshold" have two.
TOKEN = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
# Phrases also across lines, past the marks of a comment or of strings that are joined.
BETWEEN = r"[\s#>*\"']+"
PHRASE = re.compile("|".join(BETWEEN.join(p.split()) for p in PHRASES), re.IGNORECASE)


def black_listed(text: str) -> list[tuple[int, str]]:
    """(line, word or phrase) of each one in ``text``, lines counted from 1."""
    matches = [m for m in TOKEN.finditer(text) if m[0].lower() in WORDS]
    matches += PHRASE.finditer(text)
    hits = sorted((text.count("\n", 0, m.start()) + 1, m[0]) for m in matches)
    return [(line, " ".join(word.split())) for line, word in hits]


def test_no_black_listed_word_is_left() -> None:
    this = Path(__file__).resolve()
    left = [
        f"{path}:{line}: {word}"
        for path in repository_files()
        if (path.suffix in SUFFIXES or path.name == "Makefile") and (ROOT / path).resolve() != this
        for line, word in black_listed((ROOT / path).read_text(encoding="utf-8"))
    ]
    assert not left, "\n".join([f"{len(left)} black-listed words:", *left])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def f(asked_threshold): ...", [(1, "asked")]),
        ("class ToldHere:\n    SAID = 1", [(1, "Told"), (2, "SAID")]),
        ("# nobody's\n", [(1, "nobody")]),
        ("x = 1\n# eight images a\n# step", [(2, "images a # step")]),
        ('"an odd"\n" layer"', [(1, 'an odd" " layer')]),
        ("resized, quarter_turns, returned, Return, toldest, foretold, turned", []),
    ],
)
def test_the_search_sees_parts_of_identifiers_and_broken_lines(
    text: str, words: list[tuple[int, str]]
) -> None:
    assert black_listed(text) == words
