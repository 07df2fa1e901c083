"""What reading eight devices every second costs, our agent beside nvitop, gpustat and nvtop: ``python benchmarks/tui/agent.py``.

All run at once before the same simulated NVML (tests/nvml), one process a device, each with its own refresh of a second; the three
in a terminal of 200x50 (tmux), the agent as a centre starts it, its lines read and checked. CPU time is the kernel's, to the
nanosecond. A call of this NVML takes next to nothing, so these are costs of the programs themselves. Peers are found on PATH.
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

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from paceline.engine.events import NodeReported  # noqa: E402
from paceline.engine.wire import decode  # noqa: E402

from benchmarks.balancer.claims import Figure  # noqa: E402
from benchmarks.table import row, write_csv  # noqa: E402
from tests.support.nvml.simulated import Driver, build, compiler  # noqa: E402

DEVICES = 8
WARM_UP = 6.0
"""Seconds until all are past their start."""
WINDOW = 20.0
"""Seconds of CPU time taken together."""
WINDOWS = 5
PEERS = {"nvtop": ("nvtop", "-d", "10"), "nvitop": ("nvitop", "--interval", "1"), "gpustat": ("gpustat", "-i", "1")}
"""Commands that refresh every second."""
PARTS = {"nvtop": 1, "nvitop": 8, "gpustat": 8}
"""The agent may take so many times less than a peer."""


def measure() -> list[Figure]:
    """One figure a peer."""
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
    write_csv("deck_agent", list(shares), zip(*shares.values(), strict=True))
    size = f"{len(lines) / (WINDOW * WINDOWS):.2f} lines of {median(map(len, lines)):,.0f} bytes a second"
    return [_compare(peer, shares, size) for peer in PEERS]


def _shares(pids: dict[str, int]) -> dict[str, list[float]]:
    """Percent of one core, window by window."""
    found: dict[str, list[float]] = {name: [] for name in pids}
    for _ in range(WINDOWS):
        start, before = time.monotonic(), {name: _cpu(pid) for name, pid in pids.items()}
        time.sleep(WINDOW)
        passed = time.monotonic() - start
        for name, pid in pids.items():
            found[name].append(100 * (_cpu(pid) - before[name]) / passed)
    return found


def _cpu(pid: int) -> float:
    """Seconds of CPU time of a process, of threads that have ended too: its CPU-time clock, clock_getcpuclockid(3)."""
    return time.clock_gettime((~pid << 3) | 2)


def _check(lines: list[bytes]) -> None:
    """An agent that is cheap because it tells nothing would prove nothing."""
    for line in lines:
        reported = decode(line)
        assert isinstance(reported, NodeReported), line
        assert len(reported.devices) == DEVICES, line
        for device in reported.devices:
            known = (device.utilization, device.memory_used, device.temperature, device.power, device.clock, device.processes)
            assert None not in known, line
    assert len(set(lines)) == len(lines) > 0.9 * WINDOW * WINDOWS, f"{len(lines)} lines"


def _compare(peer: str, shares: dict[str, list[float]], size: str) -> Figure:
    ours = median(shares["agent"])
    agent = f"agent {_told(shares['agent'])}"
    if peer not in shares:
        return _figure(peer, f"{agent}; {peer} (or tmux) is not installed", is_met=False)
    theirs = median(shares[peer])
    return _figure(
        peer, f"{agent}, {peer} {_told(shares[peer])}: 1/{theirs / ours:.1f}; {size}", is_met=ours * PARTS[peer] <= theirs
    )


def _figure(peer: str, figure: str, *, is_met: bool) -> Figure:
    goal = f"<= {peer}'s" if PARTS[peer] == 1 else f"<= 1/{PARTS[peer]} of it"
    return Figure("deck_agent", f"agent, {DEVICES} devices at 1 Hz, CPU against {peer}", goal, figure, is_met)


def _told(shares: list[float]) -> str:
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
    """Our agent with a centre that listens; gives its pid. Readings are appended to ``lines`` as they come."""
    command = [sys.executable, "-m", "paceline.engine.agent", str(root / "node"), "bench"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()  # its hello
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
    """A program on a screen of its own, which answers what it asks of a terminal; gives its pid."""
    tmux = ["tmux", "-L", f"deck-agent-{os.getpid()}-{name}", "-f", os.devnull]
    subprocess.run([*tmux, "new-session", "-d", "-x", "200", "-y", "50", "exec " + " ".join(command)], env=env, check=True)
    try:
        found = subprocess.run([*tmux, "list-panes", "-F", "#{pane_pid}"], capture_output=True, text=True, check=True)
        yield int(found.stdout)
    finally:
        subprocess.run([*tmux, "kill-server"], check=True)


def main() -> int:
    """Measure and tell; status 1 where a goal was missed."""
    figures = measure()
    for figure in figures:
        row(figure.what, figure.goal, figure.figure, figure.is_met)
    return 0 if all(figure.is_met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
