"""States as JSON by the types of their fields, for the key frames of recordings. Both directions are compiled once per type.

A dataclass becomes the list of its values. Another version of the reducer may give other states for the same events, so that
``codec_digest`` names the source that a state comes from: a reader takes only states of its own.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..store.state import State

Convert = Callable[[Any], Any]
_SCALARS = (str, bool, int, float, type(None))


@functools.cache
def codec_digest() -> str:
    """Identifies the source of reducer, states and events; equal in every process of one version."""
    engine = Path(__file__).parents[1]
    paths = [*sorted((engine / "store").glob("*.py")), engine / "events.py", engine / "states.py", Path(__file__)]
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def encode_state(state: State) -> str:
    """A state as one line of JSON. Floats keep all digits; infinities and NaN stay what they are."""
    return json.dumps(_coder(State)[0](state), separators=(",", ":"))


def decode_state(text: str | bytes) -> State:
    """The state of ``encode_state``. Raises ValueError where the text is none."""
    try:
        return typing.cast(State, _coder(State)[1](json.loads(text)))
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise ValueError(f"no state: {error}") from None


def _same(value: Any) -> Any:
    return value


@functools.cache
def _coder(kind: Any) -> tuple[Convert, Convert]:
    """How a value of this type is encoded and decoded; the identity where JSON has it as it is."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any or kind in _SCALARS or origin is typing.Literal:
        return _same, _same
    if origin in (typing.Union, types.UnionType):
        return _optional(*_coder(next(part for part in args if part is not type(None))))
    if origin is tuple:
        return _tuple(args)
    if origin is dict:
        return _dict(*args)
    return _object(kind)


def _optional(encode: Convert, decode: Convert) -> tuple[Convert, Convert]:
    if decode is _same:
        return _same, _same
    return (lambda value: None if value is None else encode(value)), (lambda plain: None if plain is None else decode(plain))


def _tuple(args: tuple[Any, ...]) -> tuple[Convert, Convert]:
    if len(args) == 2 and args[1] is Ellipsis:
        encode, decode = _coder(args[0])
        if decode is _same:
            return _same, tuple
        return (lambda value: [encode(item) for item in value]), (lambda plain: tuple([decode(item) for item in plain]))
    coders = [_coder(part) for part in args]
    if all(decode is _same for _, decode in coders):
        return _same, tuple
    return (
        lambda value: [encode(item) for (encode, _), item in zip(coders, value, strict=True)],
        lambda plain: tuple([decode(item) for (_, decode), item in zip(coders, plain, strict=True)]),
    )


def _dict(key_kind: Any, kind: Any) -> tuple[Convert, Convert]:
    encode, decode = _coder(kind)
    if key_kind is int:
        return (
            lambda value: {str(key): encode(item) for key, item in value.items()},
            lambda plain: {int(key): decode(item) for key, item in plain.items()},
        )
    return (
        lambda value: {key: encode(item) for key, item in value.items()},
        lambda plain: {key: decode(item) for key, item in plain.items()},
    )


def _object(cls: Any) -> tuple[Convert, Convert]:
    """The coder of a dataclass. Its fields are looked up at the first use, because classes may name one another."""
    coders: list[tuple[str, Convert, Convert]] = []

    def fields() -> list[tuple[str, Convert, Convert]]:
        if not coders:
            hints = typing.get_type_hints(cls)
            coders.extend((field.name, *_coder(hints[field.name])) for field in dataclasses.fields(cls))
        return coders

    def encode(value: Any) -> list[Any]:
        return [to_plain(getattr(value, name)) for name, to_plain, _ in fields()]

    def decode(plain: Any) -> Any:
        return cls(**{name: from_plain(item) for (name, _, from_plain), item in zip(fields(), plain, strict=True)})

    return encode, decode
