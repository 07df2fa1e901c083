"""Following a run directory: every byte once, from the offset the control centre names, until the run has ended."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .processes import marked
from .rundir import ONCE, read_json, runner_is_alive

POLL = 0.2
"""Seconds between looks at the files."""
CHUNK = 48 * 1024
"""Bytes of a frame, before base64."""
BURST = 1 << 20
"""Bytes of one file a look may send, so that a large log does not keep the others waiting."""


def files_of(run: Path) -> list[str]:
    """Names of the files there are, relative to the run directory; exit.json last, for it closes the run."""
    growing = ["events.jsonl", *sorted(f"ranks/{path.name}" for path in run.glob("ranks/*.jsonl")), "out.log"]
    return [name for name in (*ONCE[:-1], *growing, ONCE[-1]) if (run / name).is_file()]


def is_gone(run: Path) -> bool:
    """Whether the runner and all its processes are gone, so that nobody will write here any more."""
    return not runner_is_alive(run) and not marked(run.name, run.parent.parent)


async def follow(run: Path, offsets: dict[str, int], send: Callable[[dict[str, Any]], None]) -> None:
    """Send frames from these offsets on; ends with one frame of lengths and SHA-256 sums.

    A frame is {"run_id", "file", "offset", "data"}; the last one {"run_id", "end": {file: {"length", "sha256"}}, "is_gone"}, where
    is_gone tells that the runner was killed before it could write exit.json.
    """
    sent = dict(offsets)
    while True:
        has_ended = read_json(run / "exit.json") is not None or is_gone(run)
        is_behind = False
        for name in files_of(run):
            is_behind |= await _send_new(run, name, sent, send)
        if has_ended and not is_behind:
            sums = {name: _seal(run / name) for name in files_of(run)}
            if all(sums[name]["length"] <= sent.get(name, 0) for name in sums):  # less than is there already: the sums tell
                without_word = read_json(run / "exit.json") is None
                send({"run_id": run.name, "end": sums, "is_gone": without_word})
                return
        await asyncio.sleep(0 if is_behind else POLL)


async def _send_new(run: Path, name: str, sent: dict[str, int], send: Callable[[dict[str, Any]], None]) -> bool:
    """Send what the file holds beyond the offset, a burst at most; whether more is left."""
    offset = sent.get(name, 0)
    with (run / name).open("rb") as file:
        file.seek(offset)
        data = file.read(BURST)
    for start in range(0, len(data), CHUNK):
        piece = data[start : start + CHUNK]
        frame = {"run_id": run.name, "file": name, "offset": offset + start, "data": base64.b64encode(piece).decode()}
        send(frame)
        await asyncio.sleep(0)
    sent[name] = offset + len(data)
    return len(data) == BURST


def _seal(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    length = 0
    with path.open("rb") as file:
        while piece := file.read(BURST):
            digest.update(piece)
            length += len(piece)
    return {"length": length, "sha256": digest.hexdigest()}
