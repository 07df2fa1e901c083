"""The filter language of ``/``: ``util<20 & job:*``, ``node:lab[1-3] | straggler``, ``!emulated``, or a single word. Pure.

    filter  = and { "|" and }                  at least one holds
    and     = operand { ["&"] operand }        all hold
    operand = ["!"] ( "(" filter ")" | FIELD OPERATOR VALUE | WORD )

An unknown value matches no comparison. This file knows no screen: ``FilterFields`` are the values that a filter compares.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from paceline.engine.errors import UsageError
from paceline.engine.inventory.nodeset import expand_node_set

MAX_FILTER_CHARS = 512
"""Longest filter that is parsed."""
NUMBER_FIELDS = ("util", "mem", "temp", "power", "clock", "age", "index", "rank")
"""Units: percent; percent or a size such as 3GiB; °C; W; MHz; seconds since the last message; index on its node; rank in its
run."""
TEXT_FIELDS = ("node", "device", "user", "job", "state", "kind", "throttle")
FLAGS = ("busy", "free", "fault", "straggler", "throttled", "emulated", "stale", "lost")
_TOKEN = re.compile(
    r"""\s*(?:(?P<term>[a-z]+\s*(?:!=|<=|>=|[<>=:])\s*(?:\[[^\]]*\]|"[^"]*"|[^\s&|()\["])*   # a field, compared
             |(?:\[[^\]]*\]|"[^"]*"|[^\s&|!()\["])(?:\[[^\]]*\]|"[^"]*"|[^\s&|()\["])*)      # a word
          |(?P<sign>[&|!()])
          |(?P<bad>\S))""",
    re.VERBOSE,
)
_COMPARISON = re.compile(r"(?P<field>[a-z]+)\s*(?P<operator>!=|<=|>=|<|>|=|:)\s*(?P<value>.*)", re.DOTALL)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?b?|%)?", re.IGNORECASE)
_POWERS = {"k": 10, "m": 20, "g": 30, "t": 40}


@dataclass(frozen=True, slots=True)
class FilterFields:
    """The values of one device, job or alert that a filter compares. Unknown numbers are absent."""

    numbers: Mapping[str, float] = field(default_factory=dict)
    sizes: Mapping[str, float] = field(default_factory=dict)
    """Sizes in bytes of fields that ``numbers`` holds as a percentage."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Texts by field; several values of one field, such as the nodes of a job, are separated by newlines, and each can match."""
    flags: frozenset[str] = frozenset()


Filter = Callable[[FilterFields], bool]


class FilterRefused(UsageError):
    """The filter has a syntax error; the reason names the column, counted from 1."""

    def __init__(self, reason: str, column: int, hint: str = "") -> None:
        super().__init__(f"column {column}: {reason}", hint=hint)
        self.column = column


def parse_filter(text: str) -> Filter:
    """Compile a filter to a predicate; an empty filter accepts everything. Raises FilterRefused."""
    if len(text) > MAX_FILTER_CHARS:
        raise FilterRefused(f"longer than {MAX_FILTER_CHARS} characters", MAX_FILTER_CHARS + 1)
    if not text.strip():
        return lambda fields: True
    reader = _TokenReader(_tokens(text), len(text) + 1)
    predicate = _parse_or(reader)
    if reader.token is not None:
        raise FilterRefused(f"{reader.token!r} has no beginning", reader.column)
    return predicate


class _TokenReader:
    """Reads tokens and their columns one at a time."""

    def __init__(self, tokens: list[tuple[str, int]], end: int) -> None:
        self._tokens, self._end, self._at = tokens, end, 0

    @property
    def token(self) -> str | None:
        return self._tokens[self._at][0] if self._at < len(self._tokens) else None

    @property
    def column(self) -> int:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else self._end

    def next(self) -> tuple[str, int]:
        self._at += 1
        return self._tokens[self._at - 1]


def _tokens(text: str) -> list[tuple[str, int]]:
    tokens = []
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind is None:
            continue
        column = match.start(kind) + 1
        if kind == "bad":
            raise FilterRefused(f"{match[kind]!r} is never closed", column)
        tokens.append((match[kind], column))
    return tokens


def _parse_or(reader: _TokenReader) -> Filter:
    parts = [_parse_and(reader)]
    while reader.token == "|":
        reader.next()
        parts.append(_parse_and(reader))
    return parts[0] if len(parts) == 1 else lambda fields: any(part(fields) for part in parts)


def _parse_and(reader: _TokenReader) -> Filter:
    parts = [_parse_operand(reader)]
    while reader.token not in (None, "|", ")"):
        if reader.token == "&":
            reader.next()
        parts.append(_parse_operand(reader))
    return parts[0] if len(parts) == 1 else lambda fields: all(part(fields) for part in parts)


def _parse_operand(reader: _TokenReader) -> Filter:
    if reader.token is None:
        raise FilterRefused("the filter ends too early", reader.column, hint=_field_names())
    token, column = reader.next()
    if token == "!":
        inner = _parse_operand(reader)
        return lambda fields: not inner(fields)
    if token == "(":
        inner = _parse_or(reader)
        if reader.token != ")":
            raise FilterRefused("this parenthesis is never closed", column)
        reader.next()
        return inner
    if token in "&|)":
        raise FilterRefused(f"{token!r} has nothing before it", column)
    match = _COMPARISON.fullmatch(token)
    return _word_filter(token) if match is None else _comparison_filter(match, column)


def _word_filter(word: str) -> Filter:
    """A flag, else a part of any text."""
    flag = word.strip('"').casefold()
    if flag in FLAGS and flag == word:
        return lambda fields: flag in fields.flags
    return lambda fields: any(flag in text.casefold() for text in fields.texts.values())


def _comparison_filter(match: re.Match[str], column: int) -> Filter:
    name, operator, value = match["field"], match["operator"], match["value"].strip('"')
    value_column = column + match.start("value")
    if name in TEXT_FIELDS:
        return _text_filter(name, operator, value, column + match.start("operator"), value_column)
    if name not in NUMBER_FIELDS:
        similar = difflib.get_close_matches(name, (*NUMBER_FIELDS, *TEXT_FIELDS), 1)
        raise FilterRefused(f"unknown field {name!r}", column, hint=f"did you mean {similar[0]}?" if similar else _field_names())
    size = _SIZE.fullmatch(value)
    if size is None:
        raise FilterRefused(f"{name} is compared with a number, not {value!r}", value_column)
    unit = (size[2] or "").lower()
    is_size = unit not in ("", "%")
    if is_size and name != "mem":
        raise FilterRefused(f"{name} is no size in bytes", value_column)
    threshold = float(size[1]) * (2.0 ** _POWERS[unit[0]] if is_size else 1.0)
    compare = _COMPARE[operator]

    def holds(fields: FilterFields) -> bool:
        value_of_row = (fields.sizes if is_size else fields.numbers).get(name)
        return value_of_row is not None and compare(value_of_row, threshold)

    return holds


_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": lambda value, threshold: value < threshold,
    "<=": lambda value, threshold: value <= threshold,
    ">": lambda value, threshold: value > threshold,
    ">=": lambda value, threshold: value >= threshold,
    "=": lambda value, threshold: value == threshold,
    ":": lambda value, threshold: value == threshold,
    "!=": lambda value, threshold: value != threshold,
}


def _text_filter(name: str, operator: str, value: str, operator_column: int, value_column: int) -> Filter:
    """Compare a text: ``:`` with a pattern of ``*`` or a node set, ``=`` with the whole text; both ignore case."""
    if operator not in (":", "=", "!="):
        raise FilterRefused(f"{name} is a text: compare it with : = or !=", operator_column)
    if not value:
        raise FilterRefused(f"{name} is compared with nothing", value_column, hint=f"{name}:* is any")
    if operator == ":" and ("[" in value or "," in value):
        try:
            names = {name_in_set.casefold() for name_in_set in expand_node_set(value)}
        except UsageError as error:
            raise FilterRefused(error.reason.partition(": ")[2] or error.reason, value_column) from None
        return lambda fields: not names.isdisjoint(_values(fields, name))
    expected = value.casefold()
    if operator == ":":
        pattern = expected.replace("[", "[[]").replace("?", "[?]")
        return lambda fields: any(value_of_row and fnmatchcase(value_of_row, pattern) for value_of_row in _values(fields, name))
    is_equal = operator == "="
    return lambda fields: (expected in _values(fields, name)) is is_equal


def _values(fields: FilterFields, name: str) -> list[str]:
    return fields.texts.get(name, "").casefold().split("\n")


def _field_names() -> str:
    return f"numbers: {' '.join(NUMBER_FIELDS)}; texts: {' '.join(TEXT_FIELDS)}; words: {' '.join(FLAGS)}"
