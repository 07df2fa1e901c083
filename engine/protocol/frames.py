"""Frames of a followed run: encodes file chunks, and validates every frame before any of it is used. Pure.

A chunk is ``{"run_id", "gen", "file", "offset", "len", "crc32", "data"}``. Its data is base64, compressed by zlib first
(``"packed": true``) where that is shorter. The end is ``{"run_id", "gen", "end": {file: {"length", "sha256"}}, "is_gone"}``. A read
error of the agent is ``{"run_id", "gen", "error"}``. ``gen`` is the number of the follow request: frames of an older request are
never taken for frames of a newer one.
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from typing import Any, TypeGuard

from .messages import Frame

MAX_CHUNK_BYTES = 128 << 10
"""Bytes of one chunk, before compression; a larger chunk is refused."""
MAX_RUN_FILES = 100_000
"""Files of one run on one node; an end that lists more is refused."""


class FrameRefused(ValueError):
    """The frame is malformed, or its bytes differ from those that were sent."""


@dataclass(frozen=True)
class FileChunk:
    """Consecutive bytes of one file."""

    file: str
    offset: int
    data: bytes


@dataclass(frozen=True)
class FileChecksum:
    """Final length of a file in bytes, and its SHA-256 in hexadecimal."""

    length: int
    sha256: str


@dataclass(frozen=True)
class EndOfRun:
    """The run is over: its files do not change any more."""

    checksums: dict[str, FileChecksum]
    is_gone: bool
    """Whether the runner was killed before it wrote exit.json."""


@dataclass(frozen=True)
class StreamFailed:
    """The agent could not read a file, and stopped the stream."""

    reason: str


def chunk_frame(run_id: str, gen: int, file: str, offset: int, data: bytes) -> Frame:
    """Encode a chunk of a file as a frame."""
    frame: Frame = {
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


def read_frame(frame: Frame) -> FileChunk | EndOfRun | StreamFailed:
    """Decode a frame. Raises FrameRefused."""
    if "error" in frame:
        return StreamFailed(str(frame["error"])[:500])
    if "end" in frame:
        return _read_end(frame)
    file, offset, length, data = (frame.get(key) for key in ("file", "offset", "len", "data"))
    if not isinstance(file, str) or not isinstance(data, str):
        raise FrameRefused("a frame without file or data")
    if not _is_count(offset) or not _is_count(length) or length > MAX_CHUNK_BYTES:
        raise FrameRefused(f"a frame of {str(length)[:20]} bytes at byte {str(offset)[:20]}")
    try:
        chunk = base64.b64decode(data, validate=True)
        if frame.get("packed") is True:
            # length + 1 bounds the output: a zip bomb fails the length check below.
            chunk = zlib.decompressobj().decompress(chunk, length + 1)
    except (ValueError, zlib.error) as error:
        raise FrameRefused(f"a frame whose data cannot be read: {error}") from None
    if len(chunk) != length or zlib.crc32(chunk) != frame.get("crc32"):
        raise FrameRefused(f"{len(chunk)} bytes of {file!r:.60} arrived changed")
    return FileChunk(file, offset, chunk)


def _read_end(frame: Frame) -> EndOfRun:
    end = frame["end"]
    if not isinstance(end, dict) or len(end) > MAX_RUN_FILES:
        raise FrameRefused("an end without checksums")
    checksums = {}
    for name, entry in end.items():
        length, digest = (entry.get("length"), entry.get("sha256")) if isinstance(entry, dict) else (None, None)
        if not _is_count(length) or not isinstance(digest, str):
            raise FrameRefused(f"no length and checksum for {name!r:.60}")
        checksums[name] = FileChecksum(length, digest)
    return EndOfRun(checksums, frame.get("is_gone") is True)


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62
