"""Gzip members of a recording: text, and empty members whose extra field holds data that gzip's own tools pass over (RFC 1952).

A value larger than one extra field goes on in the members behind it. Reading checks length and checksum: what a crash cut off, or
what only looks like a value, is none.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

MAGIC = b"\x1f\x8b\x08"
"""How every gzip member begins."""
GZIP_LEVEL, GZIP_MEMORY = 8, 9
"""Of the text. Level 9 takes more time for half a percent."""
_EXTRA_HEADER = MAGIC + b"\x04\x00\x00\x00\x00\x00\xff"
"""A member with an extra field, without a time, from no particular system."""
_EMPTY_BODY = b"\x03\x00" + bytes(8)
"""No text: its checksum and length are 0."""
_SIZES = struct.Struct("<II")
"""Length and CRC-32 of the whole value, before its first piece."""
_PIECE_BYTES = 60_000
"""Of one extra field, which holds 65,535 with its own headers."""


def text_compressor() -> zlib._Compress:
    """Compresses the text of one member."""
    return zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS, GZIP_MEMORY)


def extra_members(name: bytes, value: bytes) -> bytes:
    """Empty members that hold a value under a name of two bytes. The pieces after the first have the name in small letters."""
    pieces = [value[start : start + _PIECE_BYTES] for start in range(0, len(value), _PIECE_BYTES)] or [b""]
    found = []
    for number, piece in enumerate(pieces):
        data = piece if number else _SIZES.pack(len(value), zlib.crc32(value)) + piece
        field = (name.lower() if number else name) + struct.pack("<H", len(data)) + data
        found.append(_EXTRA_HEADER + struct.pack("<H", len(field)) + field + _EMPTY_BODY)
    return b"".join(found)


def read_extra(data: bytes, offset: int, name: bytes) -> tuple[bytes, int] | None:
    """The value of this name that begins at ``offset``, and where the member after it begins; None: there is no whole value."""
    value, size, crc = b"", 0, 0
    while True:
        is_first = not value
        piece = _piece(data, offset, name if is_first else name.lower())
        if piece is None or (is_first and len(piece[0]) < _SIZES.size):
            return None
        content, offset = piece
        if is_first:
            size, crc = _SIZES.unpack_from(content)
            content = content[_SIZES.size :]
        value += content
        if len(value) >= size:
            return (value, offset) if len(value) == size and zlib.crc32(value) == crc else None
        if not content:
            return None


def _piece(data: bytes, offset: int, name: bytes) -> tuple[bytes, int] | None:
    start = offset + len(_EXTRA_HEADER)
    if data[offset:start] != _EXTRA_HEADER or data[start + 2 : start + 4] != name or len(data) < start + 6:
        return None
    (field_size,) = struct.unpack_from("<H", data, start)
    (size,) = struct.unpack_from("<H", data, start + 4)
    end = start + 2 + field_size + len(_EMPTY_BODY)
    if size + 4 != field_size or len(data) < end or data[end - len(_EMPTY_BODY) : end] != _EMPTY_BODY:
        return None
    return data[start + 6 : start + 6 + size], end


def find_last_extra(data: bytes, name: bytes) -> tuple[int, bytes, int] | None:
    """Offset, value and end of the last whole value of this name in the data; None: there is none."""
    offset = len(data)
    while (offset := data.rfind(_EXTRA_HEADER, 0, offset)) >= 0:
        found = read_extra(data, offset, name)
        if found is not None:
            return offset, *found
    return None


def inflate(data: bytes) -> Iterator[bytes]:
    """The text of consecutive members, piece by piece. It ends silently where the data was cut off or is damaged."""
    while data:
        member = zlib.decompressobj(16 + zlib.MAX_WBITS)
        while True:
            try:
                text = member.decompress(data, 1 << 20)
            except zlib.error:
                return
            if text:
                yield text
            if member.eof:
                data = member.unused_data
                break
            data = member.unconsumed_tail
            if not data:
                return
