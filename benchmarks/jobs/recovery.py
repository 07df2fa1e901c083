"""Seconds from a fault to the next step: ``python -m benchmarks.jobs.recovery [REPEATS]``, 5 by default, 10 minutes.

Four emulated devices on four nodes of this machine, real runners, torchruns and gloo. A worker is killed or frozen, or a whole node
is frozen; one fault a run. The clock is this machine's, so moments of all nodes compare.
"""

from __future__ import annotations

import asyncio
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.table import Figure, print_figures, write_csv
from tests.support.runs.elastic_lab import ElasticLab

REPEATS = 5
NODES = [[8.0], [8.0], [8.0], [8.0]]
FAULTS: dict[str, tuple[Callable[[ElasticLab], None], float, float]] = {
    "worker killed": (lambda lab: lab.signal([lab.pid(3)], signal.SIGKILL), 2.0, 4.0),
    "node silent": (lambda lab: lab.signal(lab.processes("n3"), signal.SIGSTOP), 4.0, 8.0),
    "process frozen": (lambda lab: lab.signal([lab.pid(3)], signal.SIGSTOP), 4.0, 8.0),
}
"""Fault, goal of the median and of the worst, seconds."""


async def recover(place: Path, act: Callable[[ElasticLab], None]) -> tuple[float, int]:
    """Seconds from the fault to the first step of the survivors after it, and the steps that they repeated."""
    lab = ElasticLab(place, NODES, epochs=400)
    try:
        await lab.start()
        await lab.until_training([0, 1, 2, 3])
        await asyncio.sleep(1.0)
        began = time.time()
        act(lab)
        await lab.until(lambda: all(lab.events(number, "GroupReformed") for number in (0, 1, 2)))
        reformed = [lab.events(number, "GroupReformed")[0] for number in (0, 1, 2)]
        moment = max(event["node_time"] for event in reformed)

        def first_step() -> float | None:
            times = [event["node_time"] for event in lab.events(0, "StepsTaken") if event["node_time"] > moment]
            return min(times, default=None)

        return await lab.until(first_step) - began, max(event.get("repeated_steps", 0) for event in reformed)
    finally:
        await lab.end()


def measure(repeats: int = REPEATS) -> list[Figure]:
    """Play every fault so often."""
    figures, rows = [], []
    for name, (act, median_goal, worst_goal) in FAULTS.items():
        found = []
        for number in range(repeats):
            with tempfile.TemporaryDirectory(prefix="recovery-") as place:
                seconds, repeated = asyncio.run(recover(Path(place), act))
            found.append(seconds)
            rows.append((name, number, seconds, repeated))
            print(f"{name}: {seconds:.2f} s, {repeated} steps repeated", flush=True)
        median, worst = statistics.median(found), max(found)
        goal = f"<= {median_goal:.0f}, worst {worst_goal:.0f} s"
        value = f"{median:.2f} s, worst {worst:.2f} s of {repeats}"
        figures.append(Figure(f"{name}, one of four: training again", goal, value, median <= median_goal and worst <= worst_goal))
    worst_repeat = max(row[3] for row in rows)
    figures.append(Figure("steps repeated", "<= 1", str(worst_repeat), worst_repeat <= 1))
    write_csv("jobs_recovery", ("fault", "repeat", "seconds", "repeated_steps"), rows)
    return figures


def main() -> int:
    """Measure and print. Returns 1 where a goal was missed."""
    return print_figures(measure(int(sys.argv[1]) if len(sys.argv) > 1 else REPEATS))


if __name__ == "__main__":
    sys.exit(main())
