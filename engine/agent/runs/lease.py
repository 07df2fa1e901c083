"""The lease of a run: which control centre may act on it. Its epoch, in the run directory, only grows; the greatest epoch may act.

A lease does not expire, because clocks of machines differ. Watching needs no lease.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import WorkFailed
from ...protocol.json_files import read_json, storage_failed, write_json

LOCK_TIMEOUT_S = 5.0
"""Seconds to wait for another process that reads and writes the lease, which takes it milliseconds."""


@dataclass(frozen=True)
class Lease:
    """The newest lease of a run."""

    epoch: int = 0
    holder: str = ""
    """The control centre, as ``user@host/pid``."""


def may_take(current: Lease, epoch: int) -> bool:
    """Whether this epoch is greater than all before. Pure."""
    return epoch > current.epoch


def may_act(current: Lease, epoch: int) -> bool:
    """Whether a command of this epoch is still valid: no greater one was taken. Pure."""
    return epoch >= current.epoch


def read(run: Path) -> Lease:
    """Read the lease of a run; epoch 0 where none was taken."""
    document = read_json(run / "lease.json") or {}
    epoch, holder = document.get("epoch"), document.get("holder")
    return Lease(epoch if type(epoch) is int else 0, holder if isinstance(holder, str) else "")


def acquire(run: Path, epoch: int, holder: str) -> Lease:
    """Take the lease. Raises WorkFailed naming the holder of a newer one, and StorageFailed on a full disk."""
    with _exclusive(run):
        current = read(run)
        granted = Lease(epoch, holder[:200])
        if granted == current:  # a repeated request, whose first answer was lost with its connection
            return granted
        if not may_take(current, epoch):
            raise conflict(run, current)
        write_json(run / "lease.json", granted)
    return granted


def check(run: Path, epoch: int) -> None:
    """Raise WorkFailed if a greater epoch was taken."""
    current = read(run)
    if not may_act(current, epoch):
        raise conflict(run, current)


def conflict(run: Path, current: Lease) -> WorkFailed:
    """The error that names the holder of a newer lease."""
    holder = current.holder or "another control centre"
    return WorkFailed(f"{holder} acts on run {run.name} (epoch {current.epoch})", hint="check the run, then try again")


@contextlib.contextmanager
def _exclusive(run: Path) -> Iterator[None]:
    """Hold the lock of the lease. It is on spec.json, which never changes, because lease.json is replaced."""
    handle = os.open(run / "spec.json", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # of a FIFO, do not wait for a writer
    try:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise WorkFailed(f"another process holds the lease of run {run.name} locked", hint="try again") from None
                time.sleep(0.02)
            except OSError as error:
                raise storage_failed(run / "spec.json", error) from None
        yield
    finally:
        os.close(handle)
