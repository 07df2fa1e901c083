"""How the tasks of one attempt of a job find each other: a directory on the file system that they share, a file a task and a stage.

A task that cannot take part writes why, so that the others end at once. Who is who is proved later, by the certificates of the run.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import NodeUnreachable, WorkFailed
from ...protocol.json_files import read_json, write_json

MEETING_POLL_S = 0.1
PATIENCE_S = 300.0
"""Seconds to wait for the other tasks. Slurm starts all at once; a shared file system may show their files late."""


class Meeting:
    """The tasks of one attempt."""

    def __init__(self, directory: Path, names: Sequence[str], own: str, patience: float = PATIENCE_S) -> None:
        self._directory, self._names, self._own, self._patience = directory, tuple(names), own, patience
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def exchange(self, stage: str, value: Any) -> dict[str, Any]:
        """Give a value, and wait for those of all others; by name. Raises WorkFailed where another one gave up, NodeUnreachable."""
        write_json(self._directory / f"{stage}.{self._own}.json", {"value": value})
        deadline = time.monotonic() + self._patience
        found: dict[str, Any] = {}
        while True:
            with contextlib.suppress(OSError):
                os.listdir(self._directory)  # has NFS look again for files that were not there
            for name in self._names:
                if (gone := read_json(self._directory / f"failed.{name}.json")) is not None:
                    raise WorkFailed(str(gone.get("reason")), node=name)
                if name not in found and (document := read_json(self._directory / f"{stage}.{name}.json")) is not None:
                    found[name] = document.get("value")
            if len(found) == len(self._names):
                return found
            if time.monotonic() > deadline:
                late = ", ".join(name for name in self._names if name not in found)
                raise NodeUnreachable(f"{late} did not come within {self._patience:.0f} s", hint="do all machines share state_dir?")
            time.sleep(MEETING_POLL_S)

    def fail(self, reason: str) -> None:
        """Tell the others that this task cannot take part."""
        write_json(self._directory / f"failed.{self._own}.json", {"reason": reason})
