"""One event is one JSON line, and back; the same for specs and plans.

Runs on both sides and imports the standard library only. Readers ignore unknown fields, fill in missing ones and answer None for
unknown kinds; nothing read here can raise anything but ValueError.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from typing import Any, TypeVar

from .events import EVENTS, Event

T = TypeVar("T")
_dumps = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode


def to_plain(value: Any) -> Any:
    """Turn frozen values into dicts, lists and scalars that JSON knows; NaN and infinities become None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


@functools.cache
def _fields(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def from_plain(cls: type[T], plain: Any) -> T:
    """Build a dataclass from a dict. Raises ValueError naming the field whose type is wrong."""
    value = _convert(cls, plain, cls.__name__)
    return typing.cast(T, value)


def _convert(kind: Any, plain: Any, where: str) -> Any:
    if kind is Any:
        return plain
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if plain is None and type(None) in args:
            return None
        return _convert(next(a for a in args if a is not type(None)), plain, where)
    if dataclasses.is_dataclass(kind):
        if not isinstance(plain, dict):
            raise ValueError(f"{where}: expected an object, got {type(plain).__name__}")
        hints = _fields(typing.cast(type, kind))
        found = {k: _convert(hints[k], v, f"{where}.{k}") for k, v in plain.items() if k in hints}
        try:
            return typing.cast(Any, kind)(**found)
        except TypeError as error:
            raise ValueError(f"{where}: {error}") from None
    if origin is tuple:
        if not isinstance(plain, list):
            raise ValueError(f"{where}: expected a list, got {type(plain).__name__}")
        return tuple(_convert(args[0], item, f"{where}[{i}]") for i, item in enumerate(plain))
    if origin is dict:
        if not isinstance(plain, dict):
            raise ValueError(f"{where}: expected an object, got {type(plain).__name__}")
        return {key: _convert(args[1], item, f"{where}.{key}") for key, item in plain.items()}
    if kind is float and isinstance(plain, int) and not isinstance(plain, bool):
        return float(plain)
    if not isinstance(plain, kind) or (kind is not bool and isinstance(plain, bool)):
        raise ValueError(f"{where}: expected {kind.__name__}, got {type(plain).__name__}")
    return plain


def encode(event: Event) -> str:
    """One event as one line, without the newline; fields that hold their default are left out."""
    plain: dict[str, Any] = {"kind": type(event).__name__}
    for f in dataclasses.fields(event):
        value = getattr(event, f.name)
        if f.default is not dataclasses.MISSING and value == f.default and type(value) is type(f.default):
            continue
        plain[f.name] = to_plain(value)
    return _dumps(plain)


def decode(line: str | bytes) -> Event | None:
    """One line as an event; None for a kind this version does not know. Raises ValueError for what is no event."""
    try:
        plain = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not a JSON line: {error}") from None
    if not isinstance(plain, dict) or not isinstance(plain.get("kind"), str):
        raise ValueError("not an event: no kind")
    cls = EVENTS.get(plain.pop("kind"))
    return None if cls is None else from_plain(cls, plain)


def dumps(value: Any) -> str:
    """Any frozen value or plain structure as compact JSON."""
    return _dumps(to_plain(value))
