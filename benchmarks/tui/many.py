"""What hundreds of nodes cost the control process, all in: ``python benchmarks/tui/many.py``.

The nodes are played by one server process of ours (tests/support/ssh/crowd.py): real SSH with keys over loopback, real agent lines, every value
of every device changing. Measured is the real ``paceline`` in a real terminal: SSH, decoding, reducing, sorting and drawing; CPU
time and memory of that process alone, once its histories are full. About a quarter of an hour; leave the machine alone meanwhile.

nvitop, gpustat and nvtop see one machine and cannot be measured here; benchmarks/tui/agent.py compares them with our agent.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from paceline.engine.store.history import RECENT  # noqa: E402

from benchmarks.balancer.claims import Figure  # noqa: E402
from benchmarks.table import row, write_csv  # noqa: E402
from benchmarks.tui.terminal import LOADS, Load, Seen, Terminal, figures, watch  # noqa: E402
from tests.support.ssh.crowd import CrowdProcess  # noqa: E402

WARM_UP = RECENT + 10.0
"""Seconds until all nodes are connected and five minutes of their readings are kept."""
WINDOW, WINDOWS, KEYS = 10.0, 6, 60


def measure() -> list[Figure]:
    """All figures; the raw ones go to results/deck_many.csv."""
    found, raw = [], []
    for load in LOADS:
        seen = _run(load)
        raw += [(load.name, "cpu", value) for value in seen.cpu]
        raw += [(load.name, "bytes_a_second", value) for value in seen.written]
        raw += [(load.name, "key_seconds", value) for value in seen.keys]
        found += figures("deck_many", load, seen, "all in over SSH")
    write_csv("deck_many", ("load", "what", "value"), raw)
    return found


def _run(load: Load) -> Seen:
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
    """Measure and tell; status 1 where a goal was missed."""
    found = measure()
    print("nodes played by one server process over real SSH on loopback")
    for figure in found:
        row(figure.what, figure.goal, figure.figure, figure.is_met)
    return 0 if all(figure.is_met for figure in found) else 1


if __name__ == "__main__":
    sys.exit(main())
