"""How the fuzzer damages a text file: bytes, chunks, lines, numbers, words and encodings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

ODD_NUMBERS = [
    b"nan", b"NaN", b"inf", b"-inf", b"Infinity", b"1e999", b"-1e999", b"1e-320", b"-0", b"0",
    b"-5", b"-0.001", b"3", b"3,5", b"3.5.1", b"1_0", b"0x10", b"1e1", b"16777215.9", b"16777216",
    b"99999999999999999999", b"9" * 400, b"9" * 5000, b"1" + b"0" * 308, "١٢".encode(),
    "５".encode(), "\N{MINUS SIGN}5".encode(), b"", b" ", b"null", b"true", b"[]", b"{}", b'"7"',
    b"[1, 2, 3, 4]", b"0.000001", b"8", b"31",
]  # fmt: skip
ODD_WORDS = [
    b"", b" ", b"..", b"../../etc/passwd", b"/etc/passwd", b"C:\\x\\a.png", b"/dev/zero",
    b"\\\\host\\a", b"a\nb", b'"a\nb"', b"a\\nb", b"a&#10;b", b"a&#13;b", b"&lol;", b"&#0;",
    b"\x1b[31m", b"\\u001b[31m", b"\\ud800", b"\\u2028", "a\u2028b".encode(), "a\x85b".encode(),
    "\N{RIGHT-TO-LEFT OVERRIDE}".encode(), "é".encode(), "e\u0301".encode(), b"\xe9", b"<b>",
    b"</object>", b"<object/>", b"<![CDATA[x]]>", b"<!-- x -->", b'"', b"'", b",", b";", b"\t",
    b"null", b"NaN", b"{}", b"[]", b"=1+1", b"object", b"bndbox", b"name", b"xmin", b"ACE",
    b"a" * 3000, b"{name}", b"%s",
]  # fmt: skip
ODD_BYTES = [b"\x00", b"\xff", b"\xef\xbb\xbf", b"\r", b"\n", b"\x1a", b"\x85", b"<", b'"', b"&"]
ENCODINGS = ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7", "utf-8-sig", "cp037"]
DECLARED = [
    b"latin-1", b"utf-16", b"utf-7", b"utf-8", b"cp037", b"hex", b"rot13", b"idna", b"undefined",
    b"unicode_escape", b"big5", b"nonsense", b"punycode", b"\x00",
]  # fmt: skip
BOMB = b'<!DOCTYPE annotation [<!ENTITY lol "lol"><!ENTITY x SYSTEM "file:///etc/passwd">]>\n'

ODD_VALUES = [
    *(None, True, False, 0, 1, -1, 2.5, 10**30, -(10**400), 1e308, float("nan"), float("-inf")),
    *("", " ", "king", "7", "\ud800", "a\nb", "\x1b[31m", "../../etc/passwd", "\x00", "a\u2028b"),
    *([], {}, [[]], [0, 0, 5, 5], [1, 2, 3], [-3, -3, 5, 5], [4, 4, 1e7, 2], [5, 5, 0, 3]),
    *([0.1, 0.1, 1e-9, 1e-9], ["1", "2", "3", "4"], [1, 2, True, 4], [7.9, 7.9, 0.3, 0.3]),
    *({"id": 3}, {"counts": [1], "size": [8, 8]}),
]  # fmt: skip

Mutation = Callable[[bytes, Random, Sequence[bytes]], bytes]


def mutate(raw: bytes, rng: Random, pool: Sequence[bytes]) -> bytes:
    """``raw``, differing in one to three ways. pool: other files, to take pieces from."""
    mutated = raw
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        mutated = rng.choice(MUTATIONS)(mutated, rng, pool)
    while mutated == raw:
        mutated = rng.choice(MUTATIONS)(mutated, rng, pool)
    return mutated


def _flip(raw: bytes, rng: Random, pool: Sequence[bytes]) -> bytes:
    changed = bytearray(raw)
    for _ in range(rng.randint(1, 8) if raw else 0):
        place = rng.randrange(len(changed))
        changed[place] = rng.choice((changed[place] ^ 1 << rng.randrange(8), rng.randrange(256)))
    return bytes(changed)


def _insert(raw: bytes, rng: Random, pool: Sequence[bytes]) -> bytes:
    place = rng.randint(0, len(raw))
    new = rng.choice((rng.choice(ODD_BYTES), rng.choice(ODD_WORDS), rng.randbytes(4)))
    return raw[:place] + new + raw[place:]


def _delete(raw: bytes, rng: Random, pool: Sequence[bytes]) -> bytes:
    start, stop = _chunk(raw, rng)
    return raw[:start] + raw[stop:]


def _truncate(raw: bytes, rng: Random, pool: Sequence[bytes]) -> bytes:
    return raw[: rng.choice((0, 1, rng.randint(0, len(raw)), max(len(raw) - 1, 0)))]


def _duplicate(raw: bytes, rng: Random, pool: Sequence[bytes]) -> bytes:
    start, stop = _chunk(raw, rng)
    return raw[:stop] + raw[start:stop] * rng.choice((1, 1, 2, 50)) + raw[stop:]


def _swap(raw: bytes, rng: Random, pool: Sequence[bytes]) -> bytes:
    a, b, c, d = sorted(rng.randint(0, len(raw)) for _ in range(4))
    return raw[:a] + raw[c:d] + raw[b:c] + raw[a:b] + raw[d:]


def _splice(raw: bytes, rng: Random, pool: Sequence[bytes]) -> bytes:
    other = rng.choice(pool)
    return raw[: rng.randint(0, len(raw))] + other[rng.randint(0, len(other)) :]


def _lines(raw: bytes, rng: Random, pool: Sequence[bytes]) -> bytes:
    """A line left out, doubled, moved, or taken from another file."""
    lines = raw.splitlines(keepends=True)
    if not lines:
        return rng.choice(pool)
    place, line = rng.randrange(len(lines)), rng.choice(lines)
    match rng.randrange(4):
        case 0:
            del lines[place]
        case 1:
            lines.insert(place, line)
        case 2:
            lines.remove(line)
            lines.insert(place, line)
        case 3:
            lines[place] = rng.choice(rng.choice(pool).splitlines(keepends=True) or [b""])
    return b"".join(lines)


def _number(raw: bytes, rng: Random, pool: Sequence[bytes]) -> bytes:
    """Odd ones, or ordinary ones of boxes that lie anywhere."""
    ordinary = [b"%d" % rng.randint(-4, 36), b"%.3f" % rng.uniform(-4, 36)]
    return _replace(rb"-?\d+(\.\d+)?", rng.choice((ODD_NUMBERS, ordinary)), raw, rng)


def _word(raw: bytes, rng: Random, pool: Sequence[bytes]) -> bytes:
    """Tags, columns, keys, names: by an odd word or by another one of the file."""
    own = re.findall(rb"\w+", raw)
    return _replace(rb"[A-Za-z_]\w*", rng.choice((ODD_WORDS, own or ODD_WORDS)), raw, rng)


def _part(raw: bytes, rng: Random, pool: Sequence[bytes]) -> bytes:
    """A part that the format knows, left out, doubled or replaced by another one."""
    if raw.lstrip()[:1] == b"{":
        return _json_part(raw, rng)
    if raw.lstrip()[:1] == b"<":
        return _xml_part(raw, rng)
    rows = [line.split(b",") for line in raw.split(b"\n")]
    column, other = (rng.randrange(max(map(len, rows))) for _ in range(2))
    for row in rows:
        if len(row) > max(column, other):
            row.insert(other, row[column] if rng.random() < 0.02 else row.pop(column))
    return b"\n".join(b",".join(row) for row in rows)


def _xml_part(raw: bytes, rng: Random) -> bytes:
    # From any opening tag to its first closing one.
    spans = [
        (tag.start(), raw.find(closing, tag.end()) + len(closing))
        for tag in re.finditer(rb"<(\w+)>", raw)
        if (closing := b"</" + tag[1] + b">") in raw[tag.end() :]
    ]
    if not spans:
        return raw
    (start, stop), (a, b) = rng.choice(spans), rng.choice(spans)
    new = rng.choice((b"", raw[start:stop] * 2, raw[a:b], b"<x>" + raw[start:stop] + b"</x>"))
    return raw[:start] + new + raw[stop:]


def _json_part(raw: bytes, rng: Random) -> bytes:
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        return raw
    places = list(_places(content))
    for _ in range(rng.randint(1, 2) if places else 0):
        inside, key = rng.choice(places)
        other, its_key = rng.choice(places)
        try:
            match rng.randrange(4):
                case 0:
                    del inside[key]
                case 1:
                    inside[key] = json.loads(json.dumps(other[its_key]))
                case 2:
                    inside[key] = rng.choice(ODD_VALUES)
                case 3 if isinstance(inside, list):
                    inside.insert(key, json.loads(json.dumps(inside[key])))
        except LookupError:  # it went with what was taken out before
            pass
    return json.dumps(content).encode()


def _places(content: Any) -> list[tuple[Any, Any]]:
    """Every value inside, as what holds it and its key."""
    if not isinstance(content, (dict, list)):
        return []
    keys = list(content) if isinstance(content, dict) else list(range(len(content)))
    deeper = [place for key in keys for place in _places(content[key])]
    return [(content, key) for key in keys] + deeper


def _encode(raw: bytes, rng: Random, pool: Sequence[bytes]) -> bytes:
    text = raw.decode("utf-8", "replace")
    match rng.randrange(4):
        case 0:
            return text.encode(rng.choice(ENCODINGS), "replace")
        case 1:
            return text.replace("a", "é").encode("latin-1", "replace")
        case 2:
            return raw.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\x00", b"\n\n", b"\x0c")))
        case _:
            declared = rng.choice(DECLARED)
            return b'<?xml version="1.0" encoding="' + declared + b'"?>\n' + raw


def _entity(raw: bytes, rng: Random, pool: Sequence[bytes]) -> bytes:
    return BOMB + _replace(rb"[A-Za-z]+(?=<)", [b"&lol;", b"&x;"], raw, rng)


# The kinds that leave a file readable reach further into the readers, and are the more often.
MUTATIONS: list[Mutation] = [
    *(_flip, _insert, _delete, _truncate, _duplicate, _swap, _splice, _encode, _entity),
    *(_lines, _number, _number, _word, _part, _part, _part, _part) * 3,
]


def _chunk(raw: bytes, rng: Random) -> tuple[int, int]:
    start = rng.randint(0, len(raw))
    return start, min(len(raw), start + rng.choice((1, 5, 30, 300)))


def _replace(pattern: bytes, odd: Sequence[bytes], raw: bytes, rng: Random) -> bytes:
    """One to three places of the pattern, each by an odd text of its own."""
    for _ in range(rng.randint(1, 3)):
        places = [match.span() for match in re.finditer(pattern, raw)]
        if places:
            start, stop = rng.choice(places)
            raw = raw[:start] + rng.choice(odd) + raw[stop:]
    return raw
