"""Words of the group's store: JSON lines of the ranks to their runner, and of that runner to the one that keeps the store.

A request is {"id", "ask": word, ...}, its answer {"id", "value"} or {"id", "error", "kind"}. Values of keys travel as base64.

| word | fields | value |
|---|---|---|
| ``set`` | ``pairs``: values by key | null |
| ``append`` | ``key``, ``data`` | null |
| ``add`` | ``key``, ``amount`` | the sum, which the key now holds as decimal text |
| ``compare_set`` | ``key``, ``expected``, ``desired`` | what the key now holds; ``expected`` where there is no such key |
| ``get`` | ``keys``, ``timeout`` | list of values, once all are set |
| ``wait`` | ``keys``, ``timeout`` | null, once all are set |
| ``check`` | ``keys`` | whether all are set |
| ``delete`` | ``key`` | whether it was set |
| ``count`` | | number of keys |
| ``finish`` | ``rank``, ``timeout`` | null, once every rank has said that all its work is recorded |
"""

from __future__ import annotations

import base64

MAX_VALUE_BYTES = 8 << 20
"""Bytes of one value."""
MAX_STORE_BYTES = 256 << 20
"""Bytes of all keys and values together."""
MAX_STORE_LINE_BYTES = 16 << 20
"""Bytes of one line: holds one value as base64, or some smaller ones."""
TIMED_OUT, FULL, REFUSED, LOST = "timed out", "full", "refused", "lost"
"""Kinds of errors: keys were not set in time, no space is left, the request makes no sense, the keeper of the store is gone."""


def pack(value: bytes) -> str:
    """A value as text."""
    return base64.b64encode(value).decode()


def unpack(text: object) -> bytes:
    """The value of a text. Raises ValueError."""
    if not isinstance(text, str):
        raise ValueError("not a value")
    return base64.b64decode(text, validate=True)
