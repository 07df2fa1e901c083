"""Host stalls: measured where processes compete for a processor, and not where one sleeps on purpose."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("torch")

from paceline.engine.training.timing.run_queue import RunQueue
from paceline.engine.training.timing.timers import CpuTimer

from tests.support.waiting import until_sync

SCHEDSTAT = Path("/proc/self/schedstat")


def user_ticks(pid: int) -> int:
    """Processor time that a process has used, in hundredths of a second."""
    return int(Path(f"/proc/{pid}/stat").read_text().split()[13])


@contextmanager
def competition(processes: int) -> Iterator[None]:
    """This thread and some busy processes on one processor."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})  # children inherit it
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        until_sync(lambda: all(user_ticks(process.pid) > 10 for process in busy))  # more than it takes to start
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()
        os.sched_setaffinity(0, allowed)


def spin(seconds: float) -> None:
    """Use that much processor time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def host_share(timer: CpuTimer, cpu: float) -> float:
    """Part of a step's compute in which the host stalled."""
    timer.begin(0, 8)
    timer.loaded()
    timer.copied()
    spin(cpu)
    work = timer.last_gradient()
    return work.host_seconds / work.seconds


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_real_competition_for_the_processor_is_seen_as_stalls_of_the_host() -> None:
    with competition(3):
        assert host_share(CpuTimer(), 0.1) > 0.4


@pytest.mark.skipif(not SCHEDSTAT.exists(), reason="needs the kernel's run-queue delay")
def test_the_run_queue_distinguishes_competition_from_sleep() -> None:
    queue = RunQueue()
    before = queue.delay_seconds()
    time.sleep(0.2)  # a wait for something else than the processor: what is measured here
    slept = queue.delay_seconds() - before
    with competition(3):
        before = queue.delay_seconds()
        spin(0.1)
        competed = queue.delay_seconds() - before
    assert competed > 0.1
    assert slept < competed


def test_the_delay_is_zero_where_the_kernel_reports_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise FileNotFoundError

    monkeypatch.setattr(os, "open", refuse)
    assert RunQueue().delay_seconds() == 0.0
