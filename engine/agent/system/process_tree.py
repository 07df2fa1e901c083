"""All processes that a run has started on this node, however they detached themselves, and ending them.

A member is found by its environment, by the log as its standard output, by descent from the runner (which adopts orphans) or by its
session: a process that escapes one criterion is found by another. Scans are repeated until none is left. Linux only; elsewhere no
process is found.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Collection
from pathlib import Path

from ...protocol.json_files import read_json
from ...protocol.run_files import PRIVATE_DIR
from . import processes
from .processes import RUN_ID_VARIABLE, STATE_ROOT_VARIABLE, TERM_GRACE_S, ProcessStat, boot_id, read_stat

SESSIONS_FILE = "sessions.json"
"""File of the run directory with the run's sessions, which serves to find its processes after a kill of the runner."""
TREE_KILL_TIMEOUT_S = 10.0
"""Seconds within which processes must be gone after KILL; those that stay longer hang in the kernel."""
MIN_SCAN_PAUSE_S, MAX_SCAN_PAUSE_S = 0.05, 0.5
"""Pause between two scans after TERM, doubled from the first to the second; a scan costs some milliseconds."""
EMPTY_SCAN_PAUSE_S = 0.01
EMPTY_SCANS_REQUIRED = 8
"""Consecutive empty scans required: one scan can miss a short-lived process that has just forked."""


class ProcessTree:
    """The processes of one run on this node, except this process and the runner."""

    def __init__(self, run: Path, exclude: Collection[int] = ()) -> None:
        """``exclude``: children of this process that it waits for by itself."""
        self._run = run
        self._excluded = frozenset(exclude)
        self._environment_marks = {f"{RUN_ID_VARIABLE}={run.name}".encode(), f"{STATE_ROOT_VARIABLE}={run.parent.parent}".encode()}
        self._sessions: dict[int, int] = {}
        """Sessions of the run, each with the start time of its leader in clock ticks; 0 if the leader had ended."""
        self._saved_sessions: dict[int, int] = {}
        self._runner = 0
        self._read_start()

    def scan(self, on_member: Callable[[int], None] | None = None) -> dict[int, int]:
        """Return the living members as {pid: start time}. ``on_member`` is called as soon as one is found: some are short-lived."""
        me, table = os.getpid(), {}
        log = _file_identity(self._run / "out.log")
        members: dict[int, int] = {}
        own_session = 0 if self._runner == me else os.getsid(0)

        def join(stat: ProcessStat) -> None:
            if stat.pid not in (me, self._runner) and stat.session != own_session:
                members[stat.pid] = stat.start_ticks
                if on_member is not None:
                    on_member(stat.pid)

        for pid in processes.pids():
            stat = read_stat(pid)
            if stat is None:
                continue
            if stat.state in "ZX":
                if stat.parent == me and pid not in self._excluded:
                    with contextlib.suppress(ChildProcessError):  # an adopted orphan: only this process can reap it
                        os.waitpid(pid, os.WNOHANG)
                continue
            table[pid] = stat
            is_child = stat.parent in members or (stat.parent == self._runner and self._runner != 0)
            if is_child or self._is_in_run_session(stat, table) or self._is_marked(pid) or _writes_to(pid, log):
                join(stat)
        while True:  # members that were read before their parent or their session was known
            parents = {*members, self._runner} - {0}
            sessions = {table[pid].session for pid in members} - {own_session}
            late = [
                stat for pid, stat in table.items() if pid not in members and (stat.parent in parents or stat.session in sessions)
            ]
            known = len(members)
            for stat in late:
                join(stat)
            if len(members) == known:
                break
        self._sessions.update({table[pid].session: _leader_start(table, table[pid].session) for pid in members})
        return members

    def record(self) -> None:
        """Save the sessions to SESSIONS_FILE, for scans after a kill of the runner. A full disk is ignored."""
        self.scan()
        if self._sessions != self._saved_sessions:
            aside = self._run / f".{SESSIONS_FILE}.{os.getpid()}"
            try:
                aside.write_text(json.dumps({"boot_id": boot_id(), "sessions": self._sessions}))
                aside.rename(self._run / SESSIONS_FILE)
                self._saved_sessions = dict(self._sessions)
            except OSError:
                with contextlib.suppress(OSError):
                    aside.unlink(missing_ok=True)

    def terminate(self, grace: float = TERM_GRACE_S) -> list[int]:
        """End all members, and return the pids of those that survive. Blocks.

        Sends TERM (and CONT, since a stopped process handles TERM only then), waits up to ``grace`` seconds, stops all members so
        that none can fork, and sends KILL.
        """
        signalled: dict[int, int] = {}
        pause, deadline = MIN_SCAN_PAUSE_S, time.monotonic() + grace
        while members := self.scan():
            unsignalled = [pid for pid, started in members.items() if signalled.get(pid) != started]
            processes.send_signal(signal.SIGTERM, unsignalled)
            processes.send_signal(signal.SIGCONT, unsignalled)
            signalled.update(members)
            if time.monotonic() >= deadline:
                break
            time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
            pause = min(2 * pause, MAX_SCAN_PAUSE_S)
        deadline, empty_scans = time.monotonic() + TREE_KILL_TIMEOUT_S, 0
        while signalled and empty_scans < EMPTY_SCANS_REQUIRED:
            members = self._stop_all(deadline)
            processes.send_signal(signal.SIGKILL, members)
            empty_scans = 0 if members else empty_scans + 1
            if time.monotonic() >= deadline:
                return sorted(self.scan())
            time.sleep(MIN_SCAN_PAUSE_S if members else EMPTY_SCAN_PAUSE_S)
        return []

    def _stop_all(self, deadline: float) -> dict[int, int]:
        """Send STOP to members, each as it is found, until a scan finds no new one. Returns them."""
        known: dict[int, int] = {}
        while True:
            members = self.scan(lambda pid: processes.send_signal(signal.SIGSTOP, (pid,)))
            is_new = any(known.get(pid) != started for pid, started in members.items())
            known = members
            if not is_new or time.monotonic() >= deadline:
                return known

    def _read_start(self) -> None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            start = read_json(self._run / PRIVATE_DIR / "start.json") or read_json(self._run / "start.json") or {}
            if start["boot_id"] == boot_id():
                if processes.start_time(start["pid"]) == start["start_time"]:
                    self._runner = int(start["pid"])
                self._sessions[int(start["session"])] = 0
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            document = read_json(self._run / SESSIONS_FILE) or {}
            if document["boot_id"] == boot_id():
                self._sessions.update({int(session): int(started) for session, started in document["sessions"].items()})

    def _is_in_run_session(self, stat: ProcessStat, table: dict[int, ProcessStat]) -> bool:
        """Whether the process is in a session of the run. A session number is reused only once it is empty, by another leader."""
        started = self._sessions.get(stat.session)
        if started is None:
            return False
        leader = table.get(stat.session) or read_stat(stat.session)
        return leader is None or leader.state in "ZX" or leader.start_ticks == started

    def _is_marked(self, pid: int) -> bool:
        return self._environment_marks <= set(processes.read_environment(pid))


def _leader_start(table: dict[int, ProcessStat], session: int) -> int:
    leader = table.get(session)
    return leader.start_ticks if leader is not None else 0


def _file_identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _writes_to(pid: int, log: tuple[int, int] | None) -> bool:
    """Whether standard output or error of a process is the run's log, which only members open for writing."""
    for number in (1, 2) if log is not None else ():
        try:
            if _file_identity(processes.PROC / str(pid) / "fd" / str(number)) == log:
                text = (processes.PROC / str(pid) / "fdinfo" / str(number)).read_text()
                flags = next(line.split()[1] for line in text.splitlines() if line.startswith("flags:"))
                if int(flags, 8) & os.O_ACCMODE != os.O_RDONLY:
                    return True
        except (OSError, StopIteration, ValueError):
            continue
    return False
