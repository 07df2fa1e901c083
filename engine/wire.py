"""Encodes events, specs and plans as JSON, one event a line, and decodes them.

Runs on both sides and imports the standard library only. Decoding ignores unknown fields, fills in missing ones and returns None
for unknown kinds; it raises nothing but ValueError, whatever the other side sent.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import operator
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar

from .events import EVENTS, FORMER_NAMES, Event

T = TypeVar("T")
Convert = Callable[[Any], Any]
INTEGER_LIMIT = 2**64
"""Decoded integers are smaller than this: a larger one counts nothing, and float arithmetic on it could overflow."""
_NUMBERS = (int, float)
_dumps = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode

_quoted = json.encoder.encode_basestring_ascii


class _Misfit(ValueError):
    """A value of the wrong type; each enclosing level prepends its part to ``where``."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.where = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.args[0]}"


def to_plain(value: Any) -> Any:
    """Convert frozen values into the dicts, lists and scalars of JSON; NaN and infinities become None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def from_plain(cls: type[T], plain: Any) -> T:
    """Build a dataclass from a dict. Raises ValueError that names the field whose type is wrong.

    A float that is not finite becomes None in an optional field and is refused in any other.
    """
    try:
        return typing.cast(T, _converter(typing.cast(Any, cls))(plain))
    except _Misfit as error:
        error.where = cls.__name__ + error.where
        raise


@functools.cache
def _converter(kind: Any) -> Convert:
    """The function that converts a plain value to this type. Cached per type, because readings arrive by the thousand."""
    kind = _without_literal(kind)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return lambda plain: plain
    if origin in (typing.Union, types.UnionType):
        inner = next(a for a in args if a is not type(None))
        return _optional(inner) if type(None) in args else _converter(inner)
    if dataclasses.is_dataclass(kind):
        return _object(typing.cast(type, kind))
    if origin is tuple:
        return _sequence(_converter(args[0]))
    if origin is dict:
        return _mapping(_converter(args[1]))
    return _float if kind is float else _scalar(kind)


def _without_literal(kind: Any) -> Any:
    """Of a closed set of words ``str``: another version may have written a word that this one does not know."""
    return type(typing.get_args(kind)[0]) if typing.get_origin(kind) is typing.Literal else kind


def _object(cls: type) -> Convert:
    hints = typing.get_type_hints(cls)
    asis = {name: _asis(kind) for name, kind in hints.items()}
    converters: dict[str, Convert] = {}  # filled on first use: classes may refer to one another

    def convert(plain: Any) -> Any:
        if type(plain) is not dict:
            raise _Misfit(f"expected an object, got {type(plain).__name__}")
        found = {}
        for name, value in plain.items():
            accepted = asis.get(name)
            if accepted is None:
                continue
            given = type(value)
            if given in accepted and (given not in _NUMBERS or -INTEGER_LIMIT < value < INTEGER_LIMIT):
                found[name] = value  # the common case, without another call
                continue
            if name not in converters:
                converters[name] = _converter(hints[name])
            try:
                found[name] = converters[name](value)
            except _Misfit as error:
                error.where = f".{name}{error.where}"
                raise
        try:
            return cls(**found)
        except TypeError as error:
            raise _Misfit(str(error)) from None

    return convert


def _asis(kind: Any) -> frozenset[type]:
    """Types whose values need no conversion; of numbers, only finite ones within INTEGER_LIMIT."""
    members = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    scalars = (str, bool, int, float, type(None))
    return frozenset(scalar for member in members if (scalar := _without_literal(member)) in scalars)


def _optional(inner: Any) -> Convert:
    convert = _converter(inner)
    if inner is float:
        return lambda plain: plain if plain is None else _finite(plain)
    return lambda plain: plain if plain is None else convert(plain)


def _sequence(convert: Convert) -> Convert:
    def convert_all(plain: Any) -> tuple[Any, ...]:
        if type(plain) is not list:
            raise _Misfit(f"expected a list, got {type(plain).__name__}")
        found: list[Any] = []
        try:
            for item in plain:
                found.append(convert(item))
        except _Misfit as error:
            error.where = f"[{len(found)}]{error.where}"
            raise
        return tuple(found)

    return convert_all


def _mapping(convert: Convert) -> Convert:
    def convert_all(plain: Any) -> dict[str, Any]:
        if type(plain) is not dict:
            raise _Misfit(f"expected an object, got {type(plain).__name__}")
        found = {}
        for key, item in plain.items():
            try:
                found[key] = convert(item)
            except _Misfit as error:
                error.where = f".{key}{error.where}"
                raise
        return found

    return convert_all


def _scalar(kind: type) -> Convert:
    def check(plain: Any) -> Any:
        if type(plain) is not kind:
            raise _Misfit(f"expected {kind.__name__}, got {type(plain).__name__}")
        if isinstance(plain, int) and not -INTEGER_LIMIT < plain < INTEGER_LIMIT:
            raise _Misfit("integer is too large")
        return plain

    return check


def _float(plain: Any) -> float:
    found = _finite(plain)
    if found is None:
        raise _Misfit("expected a finite number")
    return found


def _finite(plain: Any) -> float | None:
    """The number as a float; None where it is not finite."""
    if type(plain) is not float:
        if type(plain) is not int:
            raise _Misfit(f"expected float, got {type(plain).__name__}")
        if not -INTEGER_LIMIT < plain < INTEGER_LIMIT:
            raise _Misfit("integer is too large")
        plain = float(plain)
    return plain if plain - plain == 0.0 else None


def encode(event: Event) -> str:
    """One event as one line, without the newline. Fields that hold their default are left out, also in nested values.

    Written in one pass: encoding is most of an agent's work, and an intermediate tree of dicts would double it.
    """
    return f'{{"kind":"{type(event).__name__}"{_members(event)}}}'


def _members(value: Any) -> str:
    """The fields that differ from the defaults of their class, each with a comma before it."""
    fields, items = _fields(typing.cast(Any, type(value)))
    parts = []
    for (key, default, kind), item in zip(fields, items(value), strict=True):
        if item is default:  # the common case
            continue
        given = type(item)
        if given is kind and item == default:
            continue
        if given is float:
            parts.append(key + repr(item) if item - item == 0.0 else key + "null")
        else:
            parts.append(key + _text(item))
    return "".join(parts)


def _text(value: Any) -> str:
    given = type(value)
    if given is int:
        return repr(value)
    if given is str:
        return _quoted(value)
    if isinstance(value, (list, tuple)):
        return f"[{','.join([_text(item) for item in value])}]"
    if hasattr(value, "__dataclass_fields__"):
        return f"{{{_members(value)[1:]}}}"
    return _dumps(to_plain(value))


@functools.cache
def _fields(cls: Any) -> tuple[tuple[tuple[str, Any, type], ...], Callable[[Any], tuple[Any, ...]]]:
    """For each field its JSON key, its default and the type of the default; and a getter of all values of an object."""
    fields = dataclasses.fields(cls)
    names = [f.name for f in fields]
    items = operator.attrgetter(*names) if len(names) > 1 else lambda value: tuple(getattr(value, name) for name in names)
    return tuple((f',"{f.name}":', f.default, type(f.default)) for f in fields), items


def decode(line: str | bytes) -> Event | None:
    """One line as an event; None for a kind that this version does not know. Raises ValueError where the line is no event."""
    try:
        plain = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not a JSON line: {error}") from None
    return event_from(plain)


def event_from(plain: Any) -> Event | None:
    """A parsed line as an event; None for a kind that this version does not know. Raises ValueError where it is no event."""
    if not isinstance(plain, dict) or not isinstance(plain.get("kind"), str):
        raise ValueError("not an event: no kind")
    cls = EVENTS.get(plain["kind"]) or FORMER_NAMES.get(plain["kind"])
    return None if cls is None else from_plain(cls, plain)


def dumps(value: Any) -> str:
    """Any frozen value or plain structure as compact JSON."""
    return _dumps(to_plain(value))
