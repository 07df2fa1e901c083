"""The busiest processes of a machine, from /proc: what a node without accelerators is doing, and for whom. Linux only.

A scan opens one file a process, 20 microseconds each, and is therefore made seldom: on a machine with many processes less often.
"""

from __future__ import annotations

import os
import pwd
import time
from pathlib import Path
from typing import NamedTuple

from ...events import HostProcess
from ..system.processes import RUN_ID_VARIABLE, read_environment

MAX_BUSY_PROCESSES = 8
"""Processes of one reading: those that used most processor time, then those with most memory."""
SCAN_SHARE = 0.005
"""Largest share of one processor that scans take."""
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


class _Found(NamedTuple):
    """One process, as one scan sees it."""

    cpu: float | None
    memory: int
    pid: int
    user_id: int
    name: str


class BusyProcesses:
    """Scans the processes of all users. Processor use is a mean since the last scan, unknown in the first."""

    def __init__(self, proc: Path) -> None:
        self._proc = proc
        self._before: dict[tuple[int, int], int] = {}
        """Ticks of processor time by pid and start time."""
        self._scanned_at = 0.0
        self._next_scan_at = 0.0
        self._users: dict[int, str] = {}

    def read(self) -> tuple[HostProcess, ...] | None:
        """The busiest processes, busiest first; None where it is too early for another scan."""
        now = time.monotonic()
        if now < self._next_scan_at:
            return None
        passed = now - self._scanned_at
        found: list[_Found] = []
        ticks: dict[tuple[int, int], int] = {}
        try:
            names = [entry.name for entry in os.scandir(self._proc) if entry.name.isdigit()]
        except OSError:
            return ()
        for name in names:
            status = self._status(name)
            if status is None:
                continue
            process, key, used = status
            ticks[key] = used
            if key in self._before and passed > 0:
                process = process._replace(cpu=max(0.0, (used - self._before[key]) / _TICKS / passed))
            found.append(process)
        self._before, self._scanned_at = ticks, now
        self._next_scan_at = now + (time.monotonic() - now) / SCAN_SHARE
        found.sort(key=lambda process: (-(process.cpu or 0.0), -process.memory))
        return tuple(map(self._reading, found[:MAX_BUSY_PROCESSES]))

    def _status(self, name: str) -> tuple[_Found, tuple[int, int], int] | None:
        """One process, its identity and its ticks of processor time (proc_pid_stat(5)); None: it has ended."""
        try:
            with open(self._proc / name / "stat", "rb") as file:
                user_id, text = os.fstat(file.fileno()).st_uid, file.read()
            start, end = text.index(b"("), text.rindex(b")")
            fields = text[end + 2 :].split()
            used, key, pages = int(fields[11]) + int(fields[12]), (int(name), int(fields[19])), int(fields[21])
        except (OSError, ValueError, IndexError):
            return None
        program = text[start + 1 : end].decode("utf-8", "replace")
        return _Found(None, pages * _PAGE_BYTES, int(name), user_id, program), key, used

    def _reading(self, process: _Found) -> HostProcess:
        mark = f"{RUN_ID_VARIABLE}=".encode()
        runs = (entry[len(mark) :] for entry in read_environment(process.pid) if entry.startswith(mark))
        cpu = None if process.cpu is None else round(process.cpu, 2)
        run_id = next(runs, b"").decode("utf-8", "replace")
        return HostProcess(process.pid, self._user(process.user_id), process.name, cpu, process.memory, run_id)

    def _user(self, user_id: int) -> str:
        if user_id not in self._users:
            try:
                self._users[user_id] = pwd.getpwuid(user_id).pw_name
            except KeyError:  # no name, as in a container
                self._users[user_id] = str(user_id)
        return self._users[user_id]
