"""Who may act on a run: an epoch in its run directory that only grows. A greater one may act; all others are told whose it is.

Nothing expires, because no clock decides. Watching needs no lease.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import WorkFailed
from ...protocol.json_files import read_json, write_once


@dataclass(frozen=True)
class Lease:
    """The newest leave to act."""

    epoch: int = 0
    holder: str = ""
    """The control centre, as ``user@host/pid``."""


def may_take(held: Lease, epoch: int) -> bool:
    """Whether this epoch is greater than all before. Pure."""
    return epoch > held.epoch


def may_act(held: Lease, epoch: int) -> bool:
    """Whether a deed of this epoch still counts: nobody has taken a greater one meanwhile. Pure."""
    return epoch >= held.epoch


def read(run: Path) -> Lease:
    """The lease of a run as it stands; a run without one belongs to who comes first."""
    kept = read_json(run / "lease.json") or {}
    epoch, holder = kept.get("epoch"), kept.get("holder")
    return Lease(epoch if isinstance(epoch, int) else 0, holder if isinstance(holder, str) else "")


def acquire(run: Path, epoch: int, holder: str) -> Lease:
    """Grant a lease, for good, or raise WorkFailed naming who has a newer one. Raises StorageFailed on a full disk."""
    with _alone(run):
        held = read(run)
        granted = Lease(epoch, holder[:200])
        if granted == held:  # asked again, because the first answer was lost with its link
            return granted
        if not may_take(held, epoch):
            raise refused(run, held)
        write_once(run / "lease.json", granted)
    return granted


def check(run: Path, epoch: int) -> None:
    """Raise WorkFailed if somebody was granted a greater epoch meanwhile."""
    held = read(run)
    if not may_act(held, epoch):
        raise refused(run, held)


def refused(run: Path, held: Lease) -> WorkFailed:
    """No, and whose it is."""
    return WorkFailed(f"{held.holder or 'somebody else'} acts on run {run.name} (epoch {held.epoch})", hint="look, then try again")


@contextlib.contextmanager
def _alone(run: Path) -> Iterator[None]:
    """One at a time. The lock hangs on spec.json, which never changes, because lease.json is replaced."""
    handle = os.open(run / "spec.json", os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
