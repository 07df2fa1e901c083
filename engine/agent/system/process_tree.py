"""Everything a run has started on this node, however it tried to get away, and its end.

Found by the mark in the environment, by the log as standard output, by descent from the runner (which adopts orphans) and by
session. Whoever escapes one of these is caught by another; looked for again until none is left. Linux; elsewhere nothing is found.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Collection
from pathlib import Path

from . import processes
from .processes import ROOT_MARK, RUN_MARK, TERM_GRACE, Stat, boot_id, read_stat

SESSIONS = "sessions.json"
"""In the run directory: the sessions seen while the runner lived, for the day it is killed."""
KILL_LIMIT = 10.0
"""Seconds in which killed processes must be gone; who stays then hangs in the kernel."""
PAUSES = (0.05, 0.5)
"""Seconds between two looks: at first, and at most; each costs some milliseconds."""
BREATH = 0.01
QUIET = 8
"""Looks in a row, a breath apart, that must find nobody: one alone may miss who lives for a moment only and has a child by then."""


class ProcessTree:
    """The processes of one run on this node, without the one that asks and without the runner."""

    def __init__(self, run: Path, exclude: Collection[int] = ()) -> None:
        """``spared``: children of the asking process that it waits for by itself."""
        self._run = run
        self._spared = frozenset(exclude)
        self._marks = {f"{RUN_MARK}={run.name}".encode(), f"{ROOT_MARK}={run.parent.parent}".encode()}
        self._recorded: dict[int, int] = {}
        """Sessions of the run, each with the start time of its leader, 0: it was gone already."""
        self._written: dict[int, int] = {}
        self._runner = 0
        self._read_start()

    def scan(self, act: Callable[[int], None] | None = None) -> dict[int, int]:
        """All living members as {pid: start time}. ``act`` is called the moment one is found: some do not live much longer."""
        me, table = os.getpid(), {}
        log = _identity(self._run / "out.log")
        members: dict[int, int] = {}
        own_session = 0 if self._runner == me else os.getsid(0)

        def join(one: Stat) -> None:
            if one.pid not in (me, self._runner) and one.session != own_session:
                members[one.pid] = one.started
                if act is not None:
                    act(one.pid)

        for pid in processes.pids():
            one = read_stat(pid)
            if one is None:
                continue
            if one.state in "ZX":
                if one.parent == me and pid not in self._spared:
                    with contextlib.suppress(ChildProcessError):  # an orphan adopted and dead: nobody else will fetch it
                        os.waitpid(pid, os.WNOHANG)
                continue
            table[pid] = one
            is_child = one.parent in members or (one.parent == self._runner and self._runner != 0)
            if is_child or self._is_of_session(one, table) or self._is_marked(pid) or _writes(pid, log):
                join(one)
        while True:  # whoever was passed by before its parent, or its session, was known
            parents = {*members, self._runner} - {0}
            sessions = {table[pid].session for pid in members} - {own_session}
            late = [one for pid, one in table.items() if pid not in members and (one.parent in parents or one.session in sessions)]
            known = len(members)
            for one in late:
                join(one)
            if len(members) == known:
                break
        self._recorded.update({table[pid].session: _leader(table, table[pid].session) for pid in members})
        return members

    def record(self) -> None:
        """Write down the sessions, so that they are known when the runner is not there any more. A full disk is passed over."""
        self.scan()
        if self._recorded != self._written:
            aside = self._run / f".{SESSIONS}.{os.getpid()}"
            try:
                aside.write_text(json.dumps({"boot_id": boot_id(), "sessions": self._recorded}))
                aside.rename(self._run / SESSIONS)
                self._written = dict(self._recorded)
            except OSError:
                with contextlib.suppress(OSError):
                    aside.unlink(missing_ok=True)

    def terminate(self, grace: float = TERM_GRACE) -> list[int]:
        """TERM, wait up to ``grace`` seconds, stop them all so that none can start another, KILL. Blocks; the pids that stayed.

        Stopped processes are continued first, or TERM would wait with them.
        """
        told: dict[int, int] = {}
        pause, deadline = PAUSES[0], time.monotonic() + grace
        while left := self.scan():
            fresh = [pid for pid, started in left.items() if told.get(pid) != started]
            processes.send_signal(signal.SIGTERM, fresh)
            processes.send_signal(signal.SIGCONT, fresh)
            told.update(left)
            if time.monotonic() >= deadline:
                break
            time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
            pause = min(2 * pause, PAUSES[1])
        deadline, quiet = time.monotonic() + KILL_LIMIT, 0
        while told and quiet < QUIET:
            left = self._frozen(deadline)
            processes.send_signal(signal.SIGKILL, left)
            quiet = 0 if left else quiet + 1
            if time.monotonic() >= deadline:
                return sorted(self.scan())
            time.sleep(PAUSES[0] if left else BREATH)
        return []

    def _frozen(self, deadline: float) -> dict[int, int]:
        """All members, stopped. Those that multiply faster than they can be counted are stopped as they are seen."""
        known: dict[int, int] = {}
        while True:
            found = self.scan(lambda pid: processes.send_signal(signal.SIGSTOP, (pid,)))
            is_new = any(known.get(pid) != started for pid, started in found.items())
            known = found
            if not is_new or time.monotonic() >= deadline:
                return known

    def _read_start(self) -> None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            start = json.loads((self._run / "start.json").read_bytes())
            if start["boot_id"] == boot_id():
                if processes.start_time(start["pid"]) == start["start_time"]:
                    self._runner = int(start["pid"])
                self._recorded[int(start["session"])] = 0
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            kept = json.loads((self._run / SESSIONS).read_bytes())
            if kept["boot_id"] == boot_id():
                self._recorded.update({int(session): int(started) for session, started in kept["sessions"].items()})

    def _is_of_session(self, one: Stat, table: dict[int, Stat]) -> bool:
        """Whether its session is one of the run's. The number is used again only when it is empty, and then by another leader."""
        started = self._recorded.get(one.session)
        if started is None:
            return False
        leader = table.get(one.session) or read_stat(one.session)
        return leader is None or leader.state in "ZX" or leader.started == started

    def _is_marked(self, pid: int) -> bool:
        try:
            environ = (processes.PROC / str(pid) / "environ").read_bytes()
        except OSError:  # gone meanwhile, or somebody else's
            return False
        return self._marks <= set(environ.split(b"\0"))


def _leader(table: dict[int, Stat], session: int) -> int:
    leader = table.get(session)
    return leader.started if leader is not None else 0


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _writes(pid: int, log: tuple[int, int] | None) -> bool:
    """Whether its standard output or error is the run's log: nobody else opens that for writing."""
    for number in (1, 2) if log is not None else ():
        try:
            if _identity(processes.PROC / str(pid) / "fd" / str(number)) == log:
                told = (processes.PROC / str(pid) / "fdinfo" / str(number)).read_text()
                flags = next(line.split()[1] for line in told.splitlines() if line.startswith("flags:"))
                if int(flags, 8) & os.O_ACCMODE != os.O_RDONLY:
                    return True
        except (OSError, StopIteration, ValueError):
            continue
    return False
