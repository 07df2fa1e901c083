"""Run-queue delay of Linux: how long threads of this process were ready to run without a processor, in two system calls.

Second number of /proc/self/task/<tid>/schedstat, in nanoseconds (Documentation/scheduler/sched-stats.rst of Linux). Where it
cannot be read the delay is 0: contention then counts as part of whatever it delayed.
"""

from __future__ import annotations

import contextlib
import os
import threading


class RunQueue:
    """The run-queue delay of some threads of this process together; starts with the calling one."""

    def __init__(self) -> None:
        self._files: dict[int, int] = {}
        self.add_current_thread()

    def add_current_thread(self) -> None:
        """Count the calling thread from now on. Free for a thread that is counted already."""
        thread = threading.get_native_id()
        if thread in self._files:
            return
        try:
            self._files[thread] = os.open(f"/proc/self/task/{thread}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # no such file in this kernel: the delay is unknown
            self._files[thread] = -1

    def delay_seconds(self) -> float:
        """Return the seconds since the threads began, all counted threads together."""
        nanoseconds = 0
        for file in self._files.values():
            if file >= 0:
                with contextlib.suppress(OSError, ValueError):  # the thread has ended: its delay no longer grows
                    fields = os.pread(file, 96, 0).split()
                    nanoseconds += int(fields[1]) if len(fields) == 3 else 0
        return nanoseconds / 1e9
