"""Where in a TOML text a key stands: the parser does not tell, and a refusal without a line helps nobody.

A scan of headers and keys, good enough to point: where it cannot find the key it names the nearest table around it.
"""

from __future__ import annotations

import re

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]")
_KEY = re.compile(r"""\s*((?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+))*)\s*=""")
_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|#.*')

Key = tuple[str | int, ...]


def line_of(text: str, key: Key) -> int:
    """Line, from 1, of a key such as ("node", 1, "devices", 0, "memory"), or of the nearest table around it."""
    found = _positions(text)
    for length in range(len(key), 0, -1):
        line = found.get(key[:length])
        if line is not None:
            return _inside(text, line, key[length:])
    return 1


def _positions(text: str) -> dict[Key, int]:
    """The line of every header and every key at the start of a line."""
    found: dict[Key, int] = {}
    counts: dict[Key, int] = {}
    table: Key = ()
    for number, line in enumerate(text.split("\n"), 1):
        if header := _HEADER.match(line):
            table = _table(header[2], header[1] == "[[", counts)
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            path = table
            for part in _parts(key[1]):
                path = (*path, part)
                found.setdefault(path, number)
    return found


def _table(name: str, is_array: bool, counts: dict[Key, int]) -> Key:
    """The table a header opens; of an array of tables the index is part of it."""
    path: Key = ()
    parts = _parts(name)
    for depth, part in enumerate(parts, 1):
        path = (*path, part)
        if is_array and depth == len(parts):
            counts[path] = counts.get(path, 0) + 1
        if path in counts:
            path = (*path, counts[path] - 1)
    return path


def _parts(name: str) -> list[str]:
    return [part.strip().strip("\"'") for part in re.findall(r"\"[^\"]*\"|'[^']*'|[^.]+", name)]


def _inside(text: str, line: int, rest: Key) -> int:
    """The line of an element of a list of inline tables that begins on ``line``: its brace is counted."""
    index = next((part for part in rest if isinstance(part, int)), None)
    if index is None:
        return line
    seen = 0
    for number, content in enumerate(text.split("\n")[line - 1 :], line):
        seen += _STRING.sub("", content).count("{")
        if seen > index:
            return number
    return line
