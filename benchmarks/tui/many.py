"""Full cost of hundreds of nodes for the control process: ``python -m benchmarks tui/many``.

One server process (tests/support/ssh/crowd.py) simulates the nodes: real SSH with keys over loopback, real agent lines, every
value of every device changing. The measured program is ``paceline`` in a real terminal with SSH, decoding, reducing, sorting and
drawing; the figures are CPU time and memory of that process alone, once its histories are full. About a quarter of an hour; leave
the machine idle meanwhile.

nvitop, gpustat and nvtop show one machine and cannot be measured here; ``tui/agent`` compares them with the agent.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from paceline.engine.store.history import MAX_RECENT_SAMPLES

from benchmarks.table import Figure, print_figures, write_csv
from benchmarks.tui.terminal import LOADS, Load, Measurement, Terminal, figures, watch
from tests.support.ssh.crowd import CrowdProcess

WARM_UP = MAX_RECENT_SAMPLES + 10.0
"""Seconds until all nodes are connected and five minutes of their readings are kept."""
WINDOW, WINDOWS, KEYS = 10.0, 6, 60


def measure() -> list[Figure]:
    """All figures; the raw ones are written to results/tui_many.csv."""
    results, raw = [], []
    for load in LOADS:
        seen = _run(load)
        raw += [(load.name, "cpu", value) for value in seen.cpu]
        raw += [(load.name, "bytes_a_second", value) for value in seen.written]
        raw += [(load.name, "key_seconds", value) for value in seen.keys]
        results += figures(load, seen, "all in over SSH")
    write_csv("tui_many", ("load", "what", "value"), raw)
    return results


def _run(load: Load) -> Measurement:
    with tempfile.TemporaryDirectory() as directory:
        crowd = CrowdProcess(Path(directory), load.nodes, load.devices, load.rate)
        try:
            env = {**os.environ, "HOME": directory}
            command = [sys.executable, "-m", "paceline.tui", "--nodes", str(crowd.nodes_toml)]
            with Terminal(command, load.columns, load.lines, env, Path(directory)) as terminal:
                terminal.read(WARM_UP)
                return watch(terminal, WINDOWS, WINDOW, KEYS)
        finally:
            crowd.close()


def main() -> int:
    """Measure and print. Returns 1 where a goal was missed."""
    figures = measure()
    print("nodes simulated by one server process over real SSH on loopback")
    return print_figures(figures)


if __name__ == "__main__":
    sys.exit(main())
