"""The index of a recording: blocks of text, marks, and where key frames lie, as records that form a chain from the end."""

from __future__ import annotations

import json
import lzma
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from .marks import Mark, mark_from
from .members import extra_members, find_last_extra, read_extra
from .state_codec import codec_digest

INDEX_NAME, FRAMES_NAME = b"PX", b"PK"
FRAMES_PRESET = 6
"""Of LZMA: lower ones overlook what a state repeats of the one before, and give four times the size."""
SEARCH_BYTES = 1 << 18
"""Read at once while the newest index record is looked for, from the end of the file on."""


class TextBlock(NamedTuple):
    """One member of text."""

    offset: int
    size: int
    first_line: int
    """Number of the line before its first event, over all parts; the header of a part is a line."""
    lines: int
    first_at: float
    """Seconds of the stream."""
    last_at: float


class FramePlace(NamedTuple):
    """Where the state at the beginning of a block is kept."""

    block: int
    """Number of the block within its part."""
    offset: int
    """Of the key frames that hold it."""
    place: int
    """Among them."""


@dataclass(slots=True)
class PartIndex:
    """What is known of one file of a recording."""

    blocks: list[TextBlock] = field(default_factory=list)
    frames: list[FramePlace] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    end: int = 0
    """Bytes that the index covers; text may follow."""


def write_record(previous: int, blocks: Sequence[TextBlock], frames: Sequence[FramePlace], marks: Sequence[Mark]) -> bytes:
    """An index record. ``previous``: offset of the record before it; -1: it is the first."""
    plain = {"previous": previous, "codec": codec_digest(), "blocks": blocks, "frames": frames, "marks": marks}
    return extra_members(INDEX_NAME, zlib.compress(json.dumps(plain, separators=(",", ":")).encode()))


def write_frames(states: Sequence[str]) -> bytes:
    """Key frames: encoded states, compressed together, because each repeats most of the one before."""
    return extra_members(FRAMES_NAME, lzma.compress("\n".join(states).encode(), preset=FRAMES_PRESET))


def read_frames(data: bytes, offset: int) -> list[bytes]:
    """The encoded states that stand there; none where they are damaged."""
    found = read_extra(data, offset, FRAMES_NAME)
    if found is None:
        return []
    try:
        return lzma.decompress(found[0]).split(b"\n")
    except lzma.LZMAError:
        return []


def read_index(path: Path) -> PartIndex:
    """The index of a file; an empty one where it has none. States of another version's reducer are left out. Raises OSError."""
    index = PartIndex()
    found = _newest(path)
    records: list[dict[str, Any]] = []
    with path.open("rb") as file:
        while found is not None:
            offset, value, end = found
            record = _parse(value)
            if record is None:
                break
            index.end = max(index.end, end)
            records.append(record)
            previous = record["previous"]
            if not 0 <= previous < offset:
                break
            file.seek(previous)
            data = file.read(offset - previous)
            read = read_extra(data, 0, INDEX_NAME)
            found = None if read is None else (previous, read[0], previous + read[1])
    if not records or records[-1]["previous"] != -1:
        return PartIndex()  # a chain that does not reach the beginning tells nothing reliable
    for record in reversed(records):
        index.blocks += [TextBlock(*block) for block in record["blocks"]]
        index.marks += [mark for plain in record["marks"] if (mark := mark_from(plain)) is not None]
        if record["codec"] == codec_digest():
            index.frames += [FramePlace(*frame) for frame in record["frames"]]
    return index


def _parse(value: bytes) -> dict[str, Any] | None:
    """A record; None where another program wrote it, or another version in another form."""
    try:
        record = json.loads(zlib.decompress(value))
        fits = all(len(block) == len(TextBlock._fields) for block in record["blocks"])
        fits &= all(len(frame) == len(FramePlace._fields) for frame in record["frames"])
        return record if fits and isinstance(record["marks"], list) and isinstance(record["previous"], int) else None
    except (ValueError, KeyError, TypeError, zlib.error):
        return None


def _newest(path: Path) -> tuple[int, bytes, int] | None:
    """Offset, value and end of the newest whole record, looked for from the end of the file."""
    size = path.stat().st_size
    start, data = size, b""
    with path.open("rb") as file:
        while start > 0:
            before, start = start, max(0, start - SEARCH_BYTES)
            file.seek(start)
            data = file.read(before - start) + data
            found = find_last_extra(data, INDEX_NAME)
            if found is not None:
                return start + found[0], found[1], start + found[2]
    return None
