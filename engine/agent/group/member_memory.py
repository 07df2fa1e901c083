"""What the runner of a run that outlives its devices remembers on disk: promises and votes, which speak for it after its death.

They are written before they are sent. A third machine reads them to prove the runner dead, and so does the next runner of the node.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from ...errors import StorageFailed
from ...membership.agreement import Record
from ...protocol.json_files import read_json, write_json
from ...wire import from_plain

MEMORY_FILE = "member.json"


@dataclass(frozen=True, slots=True)
class MemberMemory:
    """Of one runner."""

    life: int
    """Which runner of its node it is in this run, from 0."""
    record: Record


def keep_memory(run: Path, memory: MemberMemory) -> None:
    """Write what must not be forgotten. On a full disk nothing is left: no record is better than one that is out of date, as the
    runner then counts as alive until it is heard again."""
    try:
        write_json(run / MEMORY_FILE, memory)
    except StorageFailed:
        with contextlib.suppress(OSError):
            (run / MEMORY_FILE).unlink(missing_ok=True)


def read_memory(run: Path) -> MemberMemory | None:
    """What the last runner here remembered; None where nothing is left that can be read."""
    try:
        return from_plain(MemberMemory, read_json(run / MEMORY_FILE))
    except (TypeError, ValueError):
        return None
