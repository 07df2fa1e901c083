"""How long threads of this process stood ready to run while no processor took them: Linux's run-queue delay, in two system calls.

Second number of /proc/self/task/<tid>/schedstat, in nanoseconds (Documentation/scheduler/sched-stats.rst of Linux). Where it
cannot be read the delay is 0: contention then shows in whatever it held up.
"""

from __future__ import annotations

import os
import threading


class RunQueue:
    """The run-queue delay of some threads of this process together; starts with the calling one."""

    def __init__(self) -> None:
        self._files: dict[int, int] = {}
        self.watch()

    def watch(self) -> None:
        """Count the calling thread too, from now on. Costs nothing for a thread that is counted already."""
        thread = threading.get_native_id()
        if thread in self._files:
            return
        try:
            self._files[thread] = os.open(f"/proc/self/task/{thread}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # no such kernel: the delay is unknown
            self._files[thread] = -1

    def delay(self) -> float:
        """Seconds, since the threads began."""
        waited = 0
        for file in self._files.values():
            if file >= 0:
                fields = os.pread(file, 96, 0).split()
                waited += int(fields[1]) if len(fields) == 3 else 0
        return waited / 1e9
