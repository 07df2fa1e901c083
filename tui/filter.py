"""The language behind ``/``: ``util<20 & job:*``, ``node:lab[1-3] | straggler``, ``!emulated``, or just a word. Pure.

    filter  = all { "|" all }          any of them
    all     = one { ["&"] one }        each of them
    one     = ["!"] ( "(" filter ")" | FIELD OPERATOR VALUE | WORD )

What is unknown of a device matches no comparison. Nothing here knows a screen: a ``Subject`` is what can be asked about.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from paceline.engine.errors import UsageError
from paceline.engine.inventory.nodeset import expand

LONGEST = 512
"""Characters of a filter."""
NUMBERS = ("util", "mem", "temp", "power", "clock", "age", "index", "rank")
"""Percent, percent or a size such as 3GiB, °C, W, MHz, seconds since the last word, number on its node, rank in its run."""
TEXTS = ("node", "device", "user", "job", "state", "kind", "throttle")
FLAGS = ("busy", "free", "fault", "straggler", "throttled", "emulated", "stale", "lost")
_TOKEN = re.compile(
    r"""\s*(?:(?P<term>[a-z]+\s*(?:!=|<=|>=|[<>=:])\s*(?:\[[^\]]*\]|"[^"]*"|[^\s&|()\["])*   # a field, compared
             |(?:\[[^\]]*\]|"[^"]*"|[^\s&|!()\["])(?:\[[^\]]*\]|"[^"]*"|[^\s&|()\["])*)      # a word
          |(?P<sign>[&|!()])
          |(?P<bad>\S))""",
    re.VERBOSE,
)
_TERM = re.compile(r"(?P<field>[a-z]+)\s*(?P<operator>!=|<=|>=|<|>|=|:)\s*(?P<value>.*)", re.DOTALL)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?b?|%)?", re.IGNORECASE)
_POWERS = {"k": 10, "m": 20, "g": 30, "t": 40}


@dataclass(frozen=True, slots=True)
class Subject:
    """What can be asked about one device, job or alert. Unknown numbers are absent."""

    numbers: Mapping[str, float] = field(default_factory=dict)
    sizes: Mapping[str, float] = field(default_factory=dict)
    """Bytes, of fields that are a percentage in ``numbers``."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Several names of one kind, such as the nodes of a job, stand in lines of their own: each of them counts."""
    flags: frozenset[str] = frozenset()


Filter = Callable[[Subject], bool]


class FilterRefused(UsageError):
    """The filter cannot be read; the reason names the column, counted from 1."""

    def __init__(self, reason: str, column: int, hint: str = "") -> None:
        super().__init__(f"column {column}: {reason}", hint=hint)
        self.column = column


def parse(text: str) -> Filter:
    """Compile a filter; an empty one lets everything pass. Raises FilterRefused."""
    if len(text) > LONGEST:
        raise FilterRefused(f"longer than {LONGEST} characters", LONGEST + 1)
    if not text.strip():
        return lambda subject: True
    reader = _Reader(_tokens(text), len(text) + 1)
    found = _any(reader)
    if reader.token is not None:
        raise FilterRefused(f"{reader.token!r} has no beginning", reader.column)
    return found


class _Reader:
    """Tokens with their columns, one at a time."""

    def __init__(self, tokens: list[tuple[str, int]], end: int) -> None:
        self._tokens, self._end, self._at = tokens, end, 0

    @property
    def token(self) -> str | None:
        return self._tokens[self._at][0] if self._at < len(self._tokens) else None

    @property
    def column(self) -> int:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else self._end

    def take(self) -> tuple[str, int]:
        self._at += 1
        return self._tokens[self._at - 1]


def _tokens(text: str) -> list[tuple[str, int]]:
    found = []
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind is None:
            continue
        column = match.start(kind) + 1
        if kind == "bad":
            raise FilterRefused(f"{match[kind]!r} is never closed", column)
        found.append((match[kind], column))
    return found


def _any(reader: _Reader) -> Filter:
    parts = [_all(reader)]
    while reader.token == "|":
        reader.take()
        parts.append(_all(reader))
    return parts[0] if len(parts) == 1 else lambda subject: any(part(subject) for part in parts)


def _all(reader: _Reader) -> Filter:
    parts = [_one(reader)]
    while reader.token not in (None, "|", ")"):
        if reader.token == "&":
            reader.take()
        parts.append(_one(reader))
    return parts[0] if len(parts) == 1 else lambda subject: all(part(subject) for part in parts)


def _one(reader: _Reader) -> Filter:
    if reader.token is None:
        raise FilterRefused("something is missing at the end", reader.column, hint=_hint())
    token, column = reader.take()
    if token == "!":
        inner = _one(reader)
        return lambda subject: not inner(subject)
    if token == "(":
        inner = _any(reader)
        if reader.token != ")":
            raise FilterRefused("this parenthesis is never closed", column)
        reader.take()
        return inner
    if token in "&|)":
        raise FilterRefused(f"{token!r} has nothing before it", column)
    found = _TERM.fullmatch(token)
    return _word(token) if found is None else _comparison(found, column)


def _word(word: str) -> Filter:
    """One of the flags, else a part of any text."""
    plain = word.strip('"').casefold()
    if plain in FLAGS and plain == word:
        return lambda subject: plain in subject.flags
    return lambda subject: any(plain in text.casefold() for text in subject.texts.values())


def _comparison(found: re.Match[str], column: int) -> Filter:
    name, operator, value = found["field"], found["operator"], found["value"].strip('"')
    at = column + found.start("value")
    if name in TEXTS:
        return _text(name, operator, value, column + found.start("operator"), at)
    if name not in NUMBERS:
        near = difflib.get_close_matches(name, (*NUMBERS, *TEXTS), 1)
        raise FilterRefused(f"unknown field {name!r}", column, hint=f"did you mean {near[0]}?" if near else _hint())
    size = _SIZE.fullmatch(value)
    if size is None:
        raise FilterRefused(f"{name} is compared with a number, not {value!r}", at)
    unit = (size[2] or "").lower()
    is_size = unit not in ("", "%")
    if is_size and name != "mem":
        raise FilterRefused(f"{name} is no size in bytes", at)
    wanted = float(size[1]) * (2.0 ** _POWERS[unit[0]] if is_size else 1.0)
    compare = _COMPARE[operator]

    def holds(subject: Subject) -> bool:
        known = (subject.sizes if is_size else subject.numbers).get(name)
        return known is not None and compare(known, wanted)

    return holds


_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": lambda known, wanted: known < wanted,
    "<=": lambda known, wanted: known <= wanted,
    ">": lambda known, wanted: known > wanted,
    ">=": lambda known, wanted: known >= wanted,
    "=": lambda known, wanted: known == wanted,
    ":": lambda known, wanted: known == wanted,
    "!=": lambda known, wanted: known != wanted,
}


def _text(name: str, operator: str, value: str, operator_at: int, at: int) -> Filter:
    """``:`` is a pattern with ``*``, or a node set; ``=`` the whole text; neither minds capitals."""
    if operator not in (":", "=", "!="):
        raise FilterRefused(f"{name} is a text: it knows : = and !=", operator_at)
    if not value:
        raise FilterRefused(f"{name} is compared with nothing", at, hint=f"{name}:* is any")
    if operator == ":" and ("[" in value or "," in value):
        try:
            names = {one.casefold() for one in expand(value)}
        except UsageError as error:
            raise FilterRefused(error.reason.partition(": ")[2] or error.reason, at) from None
        return lambda subject: not names.isdisjoint(_names(subject, name))
    wanted = value.casefold()
    if operator == ":":
        pattern = wanted.replace("[", "[[]").replace("?", "[?]")
        return lambda subject: any(known and fnmatchcase(known, pattern) for known in _names(subject, name))
    is_equal = operator == "="
    return lambda subject: (wanted in _names(subject, name)) is is_equal


def _names(subject: Subject, name: str) -> list[str]:
    return subject.texts.get(name, "").casefold().split("\n")


def _hint() -> str:
    return f"numbers: {' '.join(NUMBERS)}; texts: {' '.join(TEXTS)}; words: {' '.join(FLAGS)}"
