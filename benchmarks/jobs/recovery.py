"""Seconds from a fault to the next step: ``python -m benchmarks.jobs.recovery [REPEATS]``, 5 by default, 10 minutes.

Four emulated devices on four nodes of this machine, real runners, torchruns and gloo. A worker is killed or frozen, or a whole node
is frozen; one fault a run. A killed worker comes back by itself; a node is drained. The clock is this machine's, so moments of all
nodes compare.
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
RETURN = "killed worker back"
"""From the kill to the first step of the process in its place."""
DRAIN = "node drained"
"""How long the others stood."""


def _first_step(lab: ElasticLab, number: int, moment: float) -> Callable[[], float | None]:
    def find() -> float | None:
        times = [event["node_time"] for event in lab.events(number, "StepsTaken") if event["node_time"] > moment]
        return min(times, default=None)

    return find


async def recover(place: Path, fault: str) -> list[tuple[str, float, int]]:
    """What was measured of one fault: name, seconds, steps that the survivors repeated."""
    lab = ElasticLab(place, NODES, epochs=400)
    others = (0, 1, 2)
    try:
        await lab.start()
        await lab.until_training([0, 1, 2, 3])
        await asyncio.sleep(1.0)
        began = time.time()
        if fault == DRAIN:
            await lab.ask("n3", "drain", run_id=lab.plan.run_id, reason="drained by a person")
        else:
            FAULTS[fault][0](lab)
        await lab.until(lambda: all(lab.events(number, "GroupReformed") for number in others))
        reformed = [lab.events(number, "GroupReformed")[0] for number in others]
        repeated = max(event.get("repeated_steps", 0) for event in reformed)
        if fault == DRAIN:
            return [(DRAIN, max(event["seconds"] for event in reformed), repeated)]
        moment = max(event["node_time"] for event in reformed)
        found = [(fault, await lab.until(_first_step(lab, 0, moment)) - began, repeated)]
        if fault == "worker killed":
            back = await lab.until(_first_step(lab, 4, began)) - began
            again = max(event.get("repeated_steps", 0) for number in others for event in lab.events(number, "GroupReformed")[1:])
            found.append((RETURN, back, again))
        return found
    finally:
        await lab.end()


def measure(repeats: int = REPEATS) -> list[Figure]:
    """Play every fault so often."""
    rows: list[tuple[str, int, float, int]] = []
    for fault in (*FAULTS, DRAIN):
        for number in range(repeats):
            with tempfile.TemporaryDirectory(prefix="recovery-") as place:
                for name, seconds, repeated in asyncio.run(recover(Path(place), fault)):
                    rows.append((name, number, seconds, repeated))
                    print(f"{name}: {seconds:.2f} s, {repeated} steps repeated", flush=True)
    figures = []
    for name in (*FAULTS, RETURN, DRAIN):
        found = [row[2] for row in rows if row[0] == name]
        median, worst = statistics.median(found), max(found)
        value = f"{median:.2f} s, worst {worst:.2f} s of {repeats}"
        if name in FAULTS:
            _, median_goal, worst_goal = FAULTS[name]
            goal, is_met = f"<= {median_goal:.0f}, worst {worst_goal:.0f} s", median <= median_goal and worst <= worst_goal
            figures.append(Figure(f"{name}, one of four: training again", goal, value, is_met))
        else:
            what = "trains again" if name == RETURN else "the others stood for"
            figures.append(Figure(f"{name}: {what}", "—", value, True))
    worst_repeat = max(row[3] for row in rows)
    planned = max(row[3] for row in rows if row[0] in (RETURN, DRAIN))
    figures.append(Figure("steps repeated after a fault", "<= 1", str(worst_repeat), worst_repeat <= 1))
    figures.append(Figure("steps repeated by a return and a drain", "0", str(planned), planned == 0))
    write_csv("jobs_recovery", ("fault", "repeat", "seconds", "repeated_steps"), rows)
    return figures


def main() -> int:
    """Measure and print. Returns 1 where a goal was missed."""
    return print_figures(measure(int(sys.argv[1]) if len(sys.argv) > 1 else REPEATS))


if __name__ == "__main__":
    sys.exit(main())
