"""A control centre in a process of its own, to be killed: ``python -m tests.support.runs.centre PLACE RUN_ID train|cancel``.

Launches a run on the embedded nodes of PLACE and follows it, or cancels it; torchrun is played by PLACE/torchrun.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from paceline.engine.jobs.launch.submit import submit
from paceline.engine.jobs.mirror.follow import Follower
from paceline.engine.jobs.mirror.run_mirror import RunMirror
from paceline.engine.jobs.runs.cancel import cancel
from paceline.engine.plan import CasePlan, DataPlan, NodePlan, Plan, RankPlan
from paceline.engine.specs import DeviceSpec, Inventory, NodeSpec, TrainSpec
from paceline.engine.ssh.fleet import Fleet

NODES = ("n0", "n1")


def inventory(directory: Path) -> Inventory:
    """Two embedded nodes."""
    nodes = tuple(NodeSpec(name, kind="embedded", devices=(DeviceSpec("RTX 3060", 1.0, 1 << 30),)) for name in NODES)
    return Inventory(str(directory / "nodes.toml"), nodes)


def plan_of(directory: Path, run_id: str) -> Plan:
    """One rank a node. Shared, so that runs of a test need not wait for each other."""
    nodes = tuple(NodePlan(name, i, (i,), "127.0.0.1", "lo", str(directory / "torchrun")) for i, name in enumerate(NODES))
    ranks = tuple(RankPlan(i, name, i, 0, 0, "emulated", "RTX 3060") for i, name in enumerate(NODES))
    data = DataPlan("0" * 64, "made up", 1, "0" * 64)
    return Plan(run_id, "digits-cnn", (CasePlan("equal", "equal"),), nodes, ranks, data, 1, 8, is_shared=True)


async def act(directory: Path, run_id: str, action: str) -> None:
    """Connect, act and follow to the end."""
    nodes = inventory(directory)
    fleet = Fleet(nodes, lambda event: None)
    await fleet.start()
    try:
        if action == "cancel":
            await cancel({"run_id": run_id, "nodes": list(NODES), "state": "running"}, fleet, list(NODES))
            return
        mirror = RunMirror(directory / "logs" / "runs", run_id)
        await submit(fleet, nodes.nodes, TrainSpec(), plan_of(directory, run_id), lambda event: None)
        print("submitted", flush=True)
        verdict = await Follower(mirror, NODES, fleet, lambda event: None).run()
        print(verdict.state, flush=True)
    finally:
        await fleet.close()


if __name__ == "__main__":
    asyncio.run(act(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
