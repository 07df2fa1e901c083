"""The line of a key in a TOML text, for error messages: tomllib does not report it.

This scans headers and keys only. Where it does not find the key, it returns the line of the nearest enclosing table.
"""

from __future__ import annotations

import re

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]")
_KEY = re.compile(r"""\s*((?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+))*)\s*=""")
_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|#.*')

KeyPath = tuple[str | int, ...]
"""Path of a value, such as ("node", 1, "devices", 0, "memory")."""


def line_of(text: str, key: KeyPath) -> int:
    """Line, from 1, of a key, or of the nearest enclosing table."""
    positions = _positions(text)
    for length in range(len(key), 0, -1):
        line = positions.get(key[:length])
        if line is not None:
            return _element_line(text, line, key[length:])
    return 1


def _positions(text: str) -> dict[KeyPath, int]:
    """The line of every header and every key at the start of a line."""
    positions: dict[KeyPath, int] = {}
    counts: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for number, line in enumerate(text.split("\n"), 1):
        if header := _HEADER.match(line):
            table = _table(header[2], header[1] == "[[", counts)
            positions.setdefault(table, number)
        elif key := _KEY.match(line):
            path = table
            for part in _parts(key[1]):
                path = (*path, part)
                positions.setdefault(path, number)
    return positions


def _table(name: str, is_array: bool, counts: dict[KeyPath, int]) -> KeyPath:
    """The table that a header opens; in an array of tables, with its index."""
    path: KeyPath = ()
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


def _element_line(text: str, line: int, rest: KeyPath) -> int:
    """The line of an element in a list of inline tables that starts on ``line``, found by counting braces."""
    index = next((part for part in rest if isinstance(part, int)), None)
    if index is None:
        return line
    braces = 0
    for number, content in enumerate(text.split("\n")[line - 1 :], line):
        braces += _STRING.sub("", content).count("{")
        if braces > index:
            return number
    return line
