"""What a hostile node, line or file may look like, made from a seed: the same seed gives the same trouble."""

from __future__ import annotations

import base64
import copy
import hashlib
import io
import random
import unicodedata
from collections.abc import Callable
from typing import Any

from paceline.engine.errors import NodeUnreachable, WorkFailed
from paceline.tui.command_line.narration import Narrator

SIGNS = (
    *(chr(code) for code in (*range(0x20), 0x7F, *range(0x80, 0xA0))),
    *("\u00ad", "\u034f", "\u061c", "\u115f", "\u180e", "\u200b", "\u200d", "\u200e", "\u2028", "\u2029", "\u202a", "\u202e"),
    *("\u2060", "\u2066", "\u2069", "\u3164", "\ufe0f", "\ufeff", "\uffa0", "\ufff9", "\ue000", "\ud800", "\udcff", "\U000e0041"),
)
"""Every kind of character that acts instead of being seen."""
SEQUENCES = (
    *("\x1b[31m", "\x1b[2J", "\x1b]52;c;cm0gLXJm\x07", "\x1b]8;;http://x\x1b\\", "\x1b]0;title\x07", "\x1bP+q\x1b\\", "\x9b31m"),
    *("[red]", "[/red]", "[/", "[@click=app.quit]x[/]", "[link=file:///]", "[0]", "[true, false]", "\\[", "${x}", "%s%n", "{}"),
    *(
        "\r",
        "\r\n",
        "\n",
        "\t",
        "\b\b\b",
        "\x07" * 9,
        "語",
        "e\u0301",
        "e" + "\u0301" * 50,
        "👩‍👩‍👧",
        "ﷺ",
        "||",
        "</svg>",
        "`",
        "|",
    ),
)
NAMES = (
    *(
        "a",
        "b",
        "A",
        "model.pt",
        "checkpoints/1.pt",
        "checkpoints/2.pt",
        "Checkpoints/3.pt",
        "a/b",
        "a/b/c",
        "b/../c",
        "é",
        "e\u0301",
    ),
    *(
        "..",
        "../x",
        "../../x",
        "a/../../x",
        "/etc/passwd",
        "//x",
        "./x",
        "a//b",
        "a/",
        ".",
        "",
        "~",
        "~/x",
        "a\0b",
        "a\\b",
        "..\\x",
    ),
    *("con", "NUL.txt", "x.", "x ", " x", "-rf", "ﬁle", "file", "ſ", "s", "K", "k", "x" * 255, "x" * 256, "é" * 128),
    *("d/" * 31 + "x", "d/" * 40 + "x", "a\u202eb", "a\nb", "a\x1b[31mb", "\udcff", ".incoming", ".incoming/n0", "n0", "out.log"),
)
KINDS = ("file",) * 12 + ("symlink", "fifo", "socket", "device", "directory", "other", "", None, 7)
NUMBERS: tuple[Any, ...] = (0, 1, 5, 5, 5, 300_000, -1, 1 << 49, 1 << 70, True, 2.5, "5", None, [])
GARBAGE: tuple[Any, ...] = (
    None,
    7,
    "x",
    [],
    {},
    [[]],
    {"name": None},
    {"name": 3},
    {"name": ["a"]},
    {"name": "a", "size": {}},
    True,
)


VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**30, 0.0, -0.5, 1e308, 1e-320, "", "x", "ok", "done"),
    *("\x1b[31m\u202e", [], {}, [[]], [None], {"a": 1}, [{}], ["x"] * 50, [1, 2, 3], [-1, -1, -1, -1]),
)
"""What may stand where something else belongs."""


def text(random_numbers: random.Random, most: int = 12) -> str:
    """A line of a log, a name, a reason: some of it readable, some of it an attack."""
    parts = []
    for _ in range(random_numbers.randint(1, most)):
        kind = random_numbers.random()
        if kind < 0.35:
            parts.append(random_numbers.choice(SIGNS))
        elif kind < 0.6:
            parts.append(random_numbers.choice(SEQUENCES))
        elif kind < 0.75:
            parts.append(chr(random_numbers.randrange(0x110000)))
        else:
            parts.append(random_numbers.choice(("loss 0.3", "step", " ", "ok", "rank 3 failed")))
    if random_numbers.random() < 0.02:
        parts.append(random_numbers.choice("y語\x00") * 20_000)
    return "".join(parts)


def unseen(shown: str) -> list[str]:
    """Characters of a shown text that act on a terminal or on the order of text."""
    acting = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Mn", "Me")
    return [sign for sign in shown if unicodedata.category(sign) in acting or sign in "\u115f\u1160\u3164\uffa0"]


def mutated(plain: Any, random_numbers: random.Random) -> Any:
    """A JSON value with one or more of its parts changed, removed or exchanged."""
    plain = copy.deepcopy(plain)
    for _ in range(random_numbers.choice((1, 1, 1, 2, 3, 6))):
        place = plain
        while isinstance(place, dict | list) and place:
            key = random_numbers.choice(sorted(place)) if isinstance(place, dict) else random_numbers.randrange(len(place))
            if not isinstance(place[key], dict | list) or random_numbers.random() < 0.3:
                if random_numbers.random() < 0.1:
                    del place[key]
                else:
                    place[key] = copy.deepcopy(random_numbers.choice((*VALUES, text(random_numbers, 3))))
                break
            place = place[key]
    return plain


def broken(line: bytes, random_numbers: random.Random) -> bytes:
    """A line as a bad disk or a bad mind would send it."""
    kind = random_numbers.random()
    if kind < 0.6:
        return line
    at = random_numbers.randrange(len(line) + 1)
    if kind < 0.7:
        return line[:at]
    if kind < 0.8:
        return line[:at] + random_numbers.randbytes(random_numbers.randint(1, 8)) + line[at:]
    if kind < 0.9:
        return line[:at] + bytes([random_numbers.randrange(256)]) + line[at + 1 :]
    return random_numbers.choice(
        (b"", b"[" * 100_000, b"NaN", b"1e999", b'{"a":' * 5_000, b"null", b'"\\ud800"', b"9" * 5_000, b"\xff\xfe")
    )


class Ears:
    """A session that a narrator listens to, whose words are kept."""

    def __init__(self) -> None:
        self.said = io.StringIO()
        self._narrator = Narrator(self.said, self._take)

    def _take(self, listener: Any) -> None:
        self.hear = listener

    def take(self) -> list[str]:
        """The lines said since the last time."""
        lines = self.said.getvalue().splitlines()
        self.said.seek(0)
        self.said.truncate()
        return lines


class HostileNode:
    """Answers as a node whose agent wants to write where it must not. ``ask`` has the form of a link's."""

    def __init__(self, random_numbers: random.Random) -> None:
        self._random = random_numbers
        self.entries = [self._entry() for _ in range(random_numbers.randint(0, 12))]
        self._behaviour: dict[str, str] = {}

    def _entry(self) -> Any:
        pick = self._random.choice
        if self._random.random() < 0.1:
            return pick(GARBAGE)
        name = pick(NAMES) if self._random.random() < 0.8 else text(self._random, 3)
        size = 5 if self._random.random() < 0.7 else pick(NUMBERS)
        return {"name": name, "kind": pick(KINDS), "size": size, "mode": 0o4777, "mtime_ns": pick((0, 1, 5, size))}

    async def ask(self, word: str, **body: Any) -> dict[str, Any]:
        """One answer, honest or not."""
        if word == "list_files":
            return {
                "entries": self._random.choice((self.entries,) * 20 + ((), None, {}, "x")),
                "is_cut": self._random.random() < 0.1,
            }
        behaviour = self._behaviour.setdefault(body["name"], self._random.choice(("honest",) * 6 + tuple(TRICKS)))
        if behaviour != "honest":
            return TRICKS[behaviour](word)
        data = b"bytes"
        if word == "checksum":
            return {"length": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        return {"data": base64.b64encode(data[body["offset"] :]).decode(), "size": len(data)}


def _raise(error: Exception) -> dict[str, Any]:
    raise error


TRICKS: dict[str, Callable[[str], dict[str, Any]]] = {
    "nothing": lambda word: {},
    "wrong types": lambda word: {"data": 7, "size": "x", "length": [], "sha256": None},
    "too much": lambda word: {"data": base64.b64encode(b"x" * 300_000).decode(), "length": 5, "sha256": "0" * 64},
    "no base64": lambda word: {"data": "\x1b[31m", "length": 5, "sha256": "0" * 64},
    "other bytes": lambda word: {"data": base64.b64encode(b"other").decode(), "length": 5, "sha256": "0" * 64},
    "refuses": lambda word: _raise(WorkFailed("no\x1b[31m\n", node="n0")),
    "gone": lambda word: _raise(NodeUnreachable("the link was lost", node="n0")),
}
