"""What a node never loses: ``python benchmarks/fleet/node.py [PERCENT]``. Kills, cancels, a thousand runs, one rank killed.

Real processes on this machine: real control centres over loopback SSH, real runners; torchrun is a small program, except where one
rank is killed. PERCENT (10) is the share of the full counts, which make soak runs; seeds are fixed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.table import row
from tests.integration.test_soak_node import NEVER, adopted
from tests.support.runs.kills import cancel_stubborn, kill_centres, kill_runners
from tests.support.runs.labs import LabDirectory

Row = tuple[str, str, str, bool]
SEED = 1


def measure(percent: int = 10) -> list[Row]:
    """Each row as (what, goal, figure, holds)."""
    with tempfile.TemporaryDirectory(prefix="fleet-node-") as name:
        place = Path(name)
        return [*_kills(place, percent), _cancels(place, percent), _adoption(place), _rank(place)]


def _kills(place: Path, percent: int) -> list[Row]:
    rows = []
    for what, kill, count in (("control centres", kill_centres, 200), ("runners", kill_runners, 100)):
        counts = asyncio.run(kill(place / what.replace(" ", "-"), max(1, count * percent // 100), SEED))
        lost = {name: counts[name] for name in NEVER if counts[name]}
        told = ", ".join(f"{number} {name}" for name, number in (lost or {"lost, doubled, false": 0}).items())
        rows.append((f"SIGKILLs of {what}", "0 false, 0 double", f"{counts['kills']} kills: {told}", not lost))
    return rows


def _cancels(place: Path, percent: int) -> Row:
    counts, longest = asyncio.run(cancel_stubborn(place / "cancels", max(1, 500 * percent // 100), SEED))
    survivors = counts["survivors"] + counts["reported"]
    figure = f"{counts['cancels']} cancels: {survivors} survivors, longest {longest:.1f} s"
    return "cancels of workers that hide and ignore TERM", "0 after 10 s", figure, survivors == 0 and longest <= 10.0


def _adoption(place: Path) -> Row:
    lab = place / "adoption"
    lab.mkdir()
    seconds = adopted(LabDirectory(lab, {"a": 1.0, "b": 1.0}), 1000)
    return "1,000 run directories on each of 2 nodes, jobs verb", "<= 5 s", f"{seconds:.2f} s", seconds <= 5.0


def _rank(place: Path) -> Row:
    """Real torchrun, real ranks in a collective: one gets SIGKILL."""
    (place / "rank").mkdir()
    lab = LabDirectory(place / "rank", {"fast": 60.0, "slow": 20.0})
    process = lab.start("train", "--epochs", "1000")
    lab.wait_for("epoch 1/1000", process)
    run_id = lab.run_id()
    lines = (lab.node("n1") / "runs" / run_id / "ranks" / "1.jsonl").read_text().splitlines()
    pid = next(int(line.split('"pid":')[1].split(",")[0].rstrip("}")) for line in lines if '"RankJoined"' in line)
    os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    process.communicate()
    seconds = time.monotonic() - began
    is_named = "rank 1 on n1 (slow): killed by SIGKILL" in lab.told() and lab.marked(run_id) == []
    figure = f"{seconds:.1f} s, cause {'right' if is_named else 'WRONG'}"
    return "one rank killed: the whole job stopped, the cause shown", "<= 10 s", figure, is_named and seconds <= 10.0


def main() -> int:
    """Print the rows; 1 where a goal was missed."""
    rows = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
    for values in rows:
        row(*values)
    return 0 if all(holds for *_, holds in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
