"""Measures the claims of the first release: ``python -m benchmarks.first_light [bench] [paint] [loss]`` (all by default).

bench: one run of the four-policy bench on the emulated reference lab, and its duration. paint: seconds from start to the first
painted screen in a pseudo-terminal, before any node answers. loss: seconds from the death of a whole node to the end of the run on
the others. Devices are emulated; other load on the machine affects the figures.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

from benchmarks.places import CHECKOUT
from benchmarks.table import print_line
from tests.support.runs.labs import LabDirectory

PACELINE = [sys.executable, "-m", "paceline.tui"]
PAINTS = 15
"""Starts of the app that are timed."""


def bench() -> None:
    """Compare the four policies in one launch."""
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "nodes.toml").write_text((CHECKOUT / "nodes.toml").read_text())
        began = time.monotonic()
        done = subprocess.run([*PACELINE, "--batch", "--json", "bench"], cwd=directory, stdout=subprocess.PIPE, check=True)
        seconds = time.monotonic() - began
    document = json.loads(done.stdout)
    cases = {case["policy"]: case for case in document["cases"]}
    hybrid, equal = cases["hybrid"], cases["equal"]
    accuracies = [case["accuracy"] for case in cases.values()]
    step = document["global_batch_size"] / hybrid["samples_per_second"] * 1000
    rates = [device["standalone_samples_per_second"] for device in document["devices"]]
    off = [rate / sum(rates) / (speed / 27.8) - 1 for rate, speed in zip(rates, (12.7, 9.1, 3.0, 3.0), strict=True)]
    print_line("bench of four policies, seconds", "< 180", f"{seconds:.0f}", seconds < 180)
    efficiency = hybrid["balance_efficiency"]
    print_line("hybrid: balance efficiency (emulated)", ">= 0.90", f"{efficiency:.3f}", efficiency >= 0.90)
    speedup = hybrid["speedup_over_equal"]
    print_line("hybrid: speedup over equal (emulated)", ">= 1.9", f"{speedup:.2f}", speedup >= 1.9)
    near = equal["balance_efficiency"]
    print_line("equal: balance efficiency (emulated)", "about 0.43", f"{near:.3f}", abs(near - 0.43) < 0.02)
    spread = max(accuracies) - min(accuracies)
    print_line(
        "accuracies: worst, and spread between policies",
        "> .90, <= .01",
        f"{min(accuracies):.3f}, {spread:.3f}",
        min(accuracies) > 0.9,
    )
    print_line("hybrid: mean step, ms (emulated)", "300 to 600", f"{step:.0f}", 300 <= step <= 600)
    worst = max(map(abs, off))
    print_line("standalone rates against declared speeds, worst", "<= 3 %", f"{worst:.1%}", worst <= 0.03)
    for warning in document["warnings"]:
        print(f"        warning: {warning}")


def paint() -> None:
    """Time the first text on the screen, warm, before any node can have answered."""
    seconds = sorted(_first_paint() for _ in range(PAINTS))
    median = statistics.median(seconds)
    figure = f"median {median:.2f}, {seconds[0]:.2f} to {seconds[-1]:.2f} of {PAINTS}"
    print_line("first paint of the screen, seconds", "<= 0.5", figure, median <= 0.5)


def _first_paint() -> float:
    """Seconds from fork until the terminal shows the first node."""
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "nodes.toml").write_text((CHECKOUT / "nodes.toml").read_text())
        began = time.monotonic()
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(directory)
            os.environ.update(TERM="xterm-256color", COLORTERM="truecolor")
            os.execv(sys.executable, PACELINE)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
        seen = b""
        while b"demo1" not in seen and time.monotonic() - began < 20:
            if select.select([terminal], [], [], 0.01)[0]:
                seen += os.read(terminal, 65536)
        painted = time.monotonic() - began
        os.write(terminal, b"q")
        _drain(terminal)
        os.waitpid(pid, 0)
        os.close(terminal)
    return painted


def _drain(terminal: int) -> None:
    try:
        while os.read(terminal, 65536):
            continue
    except OSError:
        return


def loss() -> None:
    """Kill all processes of one node at once, its runner included."""
    times = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as directory:
            lab = LabDirectory(Path(directory), {"a": 60.0, "b": 20.0, "c": 20.0})
            process = lab.start("train", "--epochs", "1000")
            lab.wait_for("epoch 1/1000", process)
            run_id = lab.run_id()
            began = time.monotonic()
            lab.kill_everything_of("n1", run_id)
            while any(lab.runner(name, run_id) for name in ("n0", "n2")) or lab.marked(run_id):
                time.sleep(0.02)
            times.append(time.monotonic() - began)
            process.communicate()
            is_named = "rank 1 on n1 is gone" in lab.narration()
            if process.returncode != 1 or not is_named:
                print(f"        status {process.returncode}, cause named: {is_named}")
    figure = ", ".join(f"{seconds:.1f}" for seconds in times) + " (no process left)"
    print_line("whole node killed: run ended on the others, seconds", "<= 15", figure, max(times) <= 15)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parts = {"bench": bench, "paint": paint, "loss": loss}
    for name in sys.argv[1:] or parts:
        parts[name]()
