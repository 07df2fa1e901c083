"""Kills of control centres and runners, cancels, a thousand runs, one rank killed: ``python -m benchmarks.fleet.node [PERCENT]``.

Real control centres over loopback SSH and real runners on this machine; torchrun is replaced by a small program, except where one
rank is killed. PERCENT (10) is the percentage of the full counts, which ``make soak`` runs; seeds are fixed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.table import Figure, print_figures
from tests.integration.test_soak_node import NEVER, adopted
from tests.support.runs.kills import cancel_stubborn, kill_centres, kill_runners
from tests.support.runs.labs import LabDirectory

SEED = 1


def measure(percent: int = 10) -> list[Figure]:
    """All figures, with this percentage of the full counts."""
    with tempfile.TemporaryDirectory(prefix="fleet-node-") as name:
        directory = Path(name)
        return [*_kills(directory, percent), _cancels(directory, percent), _adoption(directory), _rank(directory)]


def _kills(directory: Path, percent: int) -> list[Figure]:
    figures = []
    for what, kill, count in (("control centres", kill_centres, 200), ("runners", kill_runners, 100)):
        counts = asyncio.run(kill(directory / what.replace(" ", "-"), max(1, count * percent // 100), SEED))
        lost = {name: counts[name] for name in NEVER if counts[name]}
        values = ", ".join(f"{number} {name}" for name, number in (lost or {"lost, doubled, false": 0}).items())
        figures.append(Figure(f"SIGKILLs of {what}", "0 false, 0 double", f"{counts['kills']} kills: {values}", not lost))
    return figures


def _cancels(directory: Path, percent: int) -> Figure:
    counts, longest = asyncio.run(cancel_stubborn(directory / "cancels", max(1, 500 * percent // 100), SEED))
    survivors = counts["survivors"] + counts["reported"]
    figure = f"{counts['cancels']} cancels: {survivors} survivors, longest {longest:.1f} s"
    return Figure("cancels of workers that hide and ignore TERM", "0 after 10 s", figure, survivors == 0 and longest <= 10.0)


def _adoption(directory: Path) -> Figure:
    lab = directory / "adoption"
    lab.mkdir()
    seconds = adopted(LabDirectory(lab, {"a": 1.0, "b": 1.0}), 1000)
    return Figure("1,000 run directories on each of 2 nodes, jobs verb", "<= 5 s", f"{seconds:.2f} s", seconds <= 5.0)


def _rank(directory: Path) -> Figure:
    """Send SIGKILL to one of two real ranks under real torchrun."""
    (directory / "rank").mkdir()
    lab = LabDirectory(directory / "rank", {"fast": 60.0, "slow": 20.0})
    process = lab.start("train", "--epochs", "1000")
    lab.wait_for("epoch 1/1000", process)
    run_id = lab.run_id()
    lines = (lab.node("n1") / "runs" / run_id / "ranks" / "1.jsonl").read_text().splitlines()
    pid = next(int(line.split('"pid":')[1].split(",")[0].rstrip("}")) for line in lines if '"RankJoined"' in line)
    os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    process.communicate()
    seconds = time.monotonic() - began
    is_named = "rank 1 on n1 (slow): killed by SIGKILL" in lab.narration() and lab.marked(run_id) == []
    figure = f"{seconds:.1f} s, cause {'right' if is_named else 'WRONG'}"
    is_met = is_named and seconds <= 10.0
    return Figure("one rank killed: the whole job stopped, the cause shown", "<= 10 s", figure, is_met)


def main() -> int:
    """Measure and print. Returns 1 where a goal was missed."""
    return print_figures(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 10))


if __name__ == "__main__":
    sys.exit(main())
