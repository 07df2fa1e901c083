"""CPU time of reading eight devices every second, the agent against nvitop, gpustat and nvtop: ``python -m benchmarks tui/agent``.

All run at the same time on one simulated NVML (tests/support/nvml), with one process per device and a refresh of a second; the
three peers in a terminal of 200x50 (tmux), the agent as a control centre starts it, with its lines read and checked. The kernel
accounts CPU time in nanoseconds. A call of this NVML takes almost no time, so the figures are the costs of the programs themselves.
Peers are looked up on PATH.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from paceline.engine.events import NodeReported
from paceline.engine.wire import decode

from benchmarks.table import Figure, print_figures, write_csv
from tests.support.nvml.simulated import Driver, build, compiler

DEVICES = 8
WARM_UP = 6.0
"""Seconds after which all programs have started up."""
WINDOW = 20.0
"""Seconds of one measurement of CPU time."""
WINDOWS = 5
PEERS = {"nvtop": ("nvtop", "-d", "10"), "nvitop": ("nvitop", "--interval", "1"), "gpustat": ("gpustat", "-i", "1")}
"""Commands that refresh every second."""
GOAL_FACTORS = {"nvtop": 1, "nvitop": 8, "gpustat": 8}
"""By peer: its CPU time must be at least this multiple of the agent's."""


def measure() -> list[Figure]:
    """One figure per peer."""
    if compiler() is None:
        return [_figure(peer, "not measured: no C compiler", is_met=False) for peer in PEERS]
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        workers = [stack.enter_context(_running(["sleep", "infinity"])) for _ in range(DEVICES)]
        uses = [f"process {index} {worker.pid} 20480 compute" for index, worker in enumerate(workers)]
        driver = Driver(build(directory), directory, f"driver devices={DEVICES}", *uses)
        env = {**os.environ, **driver.env}
        lines: list[bytes] = []
        pids = {"agent": stack.enter_context(_agent(directory, env, lines))}
        for peer, command in PEERS.items():
            if (path := shutil.which(command[0])) is not None and shutil.which("tmux") is not None:
                pids[peer] = stack.enter_context(_in_terminal(peer, [path, *command[1:]], env))
        time.sleep(WARM_UP)
        lines.clear()
        shares = _shares(pids)
        _check(lines)
    write_csv("tui_agent", list(shares), zip(*shares.values(), strict=True))
    size = f"{len(lines) / (WINDOW * WINDOWS):.2f} lines of {median(map(len, lines)):,.0f} bytes a second"
    return [_compare(peer, shares, size) for peer in PEERS]


def _shares(pids: dict[str, int]) -> dict[str, list[float]]:
    """Percent of one core, by program and window."""
    found: dict[str, list[float]] = {name: [] for name in pids}
    for _ in range(WINDOWS):
        start, before = time.monotonic(), {name: _cpu(pid) for name, pid in pids.items()}
        time.sleep(WINDOW)
        passed = time.monotonic() - start
        for name, pid in pids.items():
            found[name].append(100 * (_cpu(pid) - before[name]) / passed)
    return found


def _cpu(pid: int) -> float:
    """CPU seconds of a process, ended threads included: its CPU-time clock, see clock_getcpuclockid(3)."""
    return time.clock_gettime((~pid << 3) | 2)


def _check(lines: list[bytes]) -> None:
    """Raise AssertionError unless every line is a complete reading: an agent that reads nothing would be cheap."""
    for line in lines:
        reported = decode(line)
        assert isinstance(reported, NodeReported), line
        assert len(reported.devices) == DEVICES, line
        for device in reported.devices:
            values = (device.utilization, device.memory_used, device.temperature, device.power, device.clock, device.processes)
            assert None not in values, line
    assert len(set(lines)) == len(lines) > 0.9 * WINDOW * WINDOWS, f"{len(lines)} lines"


def _compare(peer: str, shares: dict[str, list[float]], size: str) -> Figure:
    own = median(shares["agent"])
    agent = f"agent {_spread(shares['agent'])}"
    if peer not in shares:
        return _figure(peer, f"{agent}; {peer} (or tmux) is not installed", is_met=False)
    theirs = median(shares[peer])
    return _figure(
        peer, f"{agent}, {peer} {_spread(shares[peer])}: 1/{theirs / own:.1f}; {size}", is_met=own * GOAL_FACTORS[peer] <= theirs
    )


def _figure(peer: str, figure: str, *, is_met: bool) -> Figure:
    goal = f"<= {peer}'s" if GOAL_FACTORS[peer] == 1 else f"<= 1/{GOAL_FACTORS[peer]} of it"
    return Figure(f"agent, {DEVICES} devices at 1 Hz, CPU against {peer}", goal, figure, is_met)


def _spread(shares: list[float]) -> str:
    return f"{median(shares):.3f} % ({min(shares):.3f}-{max(shares):.3f})"


@contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def _agent(root: Path, env: dict[str, str], lines: list[bytes]) -> Iterator[int]:
    """Run the agent with a reader; yields its pid. Readings are appended to ``lines`` as they arrive."""
    command = [sys.executable, "-m", "paceline.engine.agent", str(root / "node"), "bench"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()  # the hello
    process.stdin.write(json.dumps({"setup": {"devices": [], "interval": 1.0}}).encode() + b"\n")
    process.stdin.flush()
    threading.Thread(target=lambda output: lines.extend(output), args=(process.stdout,), daemon=True).start()
    try:
        yield process.pid
    finally:
        process.stdin.close()
        process.wait(10)


@contextmanager
def _in_terminal(name: str, command: list[str], env: dict[str, str]) -> Iterator[int]:
    """Run a program in a terminal of tmux, which answers its terminal queries; yields its pid."""
    tmux = ["tmux", "-L", f"tui-agent-{os.getpid()}-{name}", "-f", os.devnull]
    subprocess.run([*tmux, "new-session", "-d", "-x", "200", "-y", "50", "exec " + " ".join(command)], env=env, check=True)
    try:
        found = subprocess.run([*tmux, "list-panes", "-F", "#{pane_pid}"], capture_output=True, text=True, check=True)
        yield int(found.stdout)
    finally:
        subprocess.run([*tmux, "kill-server"], check=True)


def main() -> int:
    """Measure and print. Returns 1 where a goal was missed."""
    return print_figures(measure())


if __name__ == "__main__":
    sys.exit(main())
