"""Followed bytes on the wire: a frame is checked before anything of it is believed. Pure.

A piece is ``{"run_id", "gen", "file", "offset", "len", "crc32", "data"}``, the data base64, packed by zlib first
(``"packed": true``) where that is shorter. The end is ``{"run_id", "gen", "end": {file: {"length", "sha256"}}, "is_gone"}``; what
the agent could not read is ``{"run_id", "gen", "error"}``. ``gen`` names one asking: frames of an older one are never taken for
those of a newer.
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from typing import Any, TypeGuard

CHUNK = 128 << 10
"""Bytes of a piece at most; more is refused."""
FILES = 100_000
"""Files of a run on one node at most."""


class FrameRefused(ValueError):
    """What arrived is no frame of ours, or its bytes are not those that were sent."""


@dataclass(frozen=True)
class FileChunk:
    """Bytes of one file."""

    file: str
    offset: int
    data: bytes


@dataclass(frozen=True)
class FileChecksum:
    """How long a file is in the end, and its SHA-256 sum in hexadecimal."""

    length: int
    sha256: str


@dataclass(frozen=True)
class EndOfRun:
    """Nobody will write there any more."""

    seals: dict[str, FileChecksum]
    is_gone: bool
    """Whether the runner was killed before it could write exit.json."""


@dataclass(frozen=True)
class StreamFailed:
    """The agent could not read on."""

    reason: str


def chunk_frame(run_id: str, gen: int, file: str, offset: int, data: bytes) -> dict[str, Any]:
    """A piece as it travels."""
    frame: dict[str, Any] = {
        "run_id": run_id,
        "gen": gen,
        "file": file,
        "offset": offset,
        "len": len(data),
        "crc32": zlib.crc32(data),
    }
    packed = zlib.compress(data, 1) if len(data) > 1024 else data
    if len(packed) < len(data):
        return {**frame, "packed": True, "data": base64.b64encode(packed).decode()}
    return {**frame, "data": base64.b64encode(data).decode()}


def read_frame(frame: dict[str, Any]) -> FileChunk | EndOfRun | StreamFailed:
    """What a frame says. Raises FrameRefused."""
    if "error" in frame:
        return StreamFailed(str(frame["error"])[:500])
    if "end" in frame:
        return _read_end(frame)
    file, offset, length, data = (frame.get(key) for key in ("file", "offset", "len", "data"))
    if not isinstance(file, str) or not isinstance(data, str):
        raise FrameRefused("a frame without file or data")
    if not _is_count(offset) or not _is_count(length) or length > CHUNK:
        raise FrameRefused(f"a frame of {str(length)[:20]} bytes at byte {str(offset)[:20]}")
    try:
        piece = base64.b64decode(data, validate=True)
        if frame.get("packed") is True:
            unpacker = zlib.decompressobj()
            piece = unpacker.decompress(piece, length + 1)  # never more than was announced, whatever is packed in there
    except (ValueError, zlib.error) as error:
        raise FrameRefused(f"a frame whose data cannot be read: {error}") from None
    if len(piece) != length or zlib.crc32(piece) != frame.get("crc32"):
        raise FrameRefused(f"{len(piece)} bytes of {file!r:.60} arrived changed")
    return FileChunk(file, offset, piece)


def _read_end(frame: dict[str, Any]) -> EndOfRun:
    end = frame["end"]
    if not isinstance(end, dict) or len(end) > FILES:
        raise FrameRefused("an end without sums")
    seals = {}
    for name, seal in end.items():
        length, digest = (seal.get("length"), seal.get("sha256")) if isinstance(seal, dict) else (None, None)
        if not _is_count(length) or not isinstance(digest, str):
            raise FrameRefused(f"no length and sum for {name!r:.60}")
        seals[name] = FileChecksum(length, digest)
    return EndOfRun(seals, frame.get("is_gone") is True)


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62
