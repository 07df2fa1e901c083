"""Runners of several nodes on this machine, with a small program that plays torchrun: for what must happen when things die."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from paceline.engine.agent.rpc.dispatch import REQUESTS
from paceline.engine.agent.runs.run_dir import runner_is_alive
from paceline.engine.agent.system.state_dir import StateDir
from paceline.engine.jobs.doors.certificates import make_certificates
from paceline.engine.plan import CasePlan, DataPlan, NodePlan, Plan, RankPlan
from paceline.engine.protocol.json_files import read_json
from paceline.engine.wire import to_plain

from tests.support.waiting import until

RUN = "20260101-0000-abcdef"
SPEC = {"workload": "digits-cnn", "policies": ["equal"]}
STAYS = "sleep 600 & wait"
"""A torchrun whose one worker goes on for ever."""


class Lab:
    """Nodes that are directories; each launch uses the agent's own requests."""

    def __init__(self, path: Path, scripts: list[str]) -> None:
        self.homes = [StateDir(path / f"n{i}", f"n{i}") for i in range(len(scripts))]
        nodes, ranks = [], []
        for i, (home, script) in enumerate(zip(self.homes, scripts, strict=True)):
            home.root.mkdir(parents=True)
            program = home.root / "python"
            program.write_text(f"#!/bin/sh\nRUN={home.root}/runs/{RUN}\n{script}\n")
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
            nodes.append(NodePlan(home.name, i, (i,), "127.0.0.1", "lo", str(program)))
            ranks.append(RankPlan(i, home.name, i, 0, 0, "emulated", f"device {i}"))
        data = DataPlan("0" * 64, "made up", 1, "0" * 64)
        self.certificates = make_certificates(RUN, [home.name for home in self.homes])
        self.plan = Plan(RUN, "digits-cnn", (CasePlan("equal", "equal"),), tuple(nodes), tuple(ranks), data, 1, 8)

    async def ask(self, node: int, what: str, **body: Any) -> dict[str, Any]:
        """One request to one node's agent."""
        if what == "cancel":
            body.setdefault("epoch", 1)
        return await REQUESTS[what](self.homes[node], body, silent)

    async def launch(self, node: int, **changes: Any) -> dict[str, Any]:
        """Start the runner of a node."""
        own = self.certificates[self.homes[node].name]
        return await self.ask(node, "launch", **{"spec": SPEC, "plan": to_plain(self.plan), "certificates": own, **changes})

    async def start(self) -> None:
        """Launch on all nodes and introduce them, as the centre does."""
        ports = [(await self.launch(i))["port"] for i in range(len(self.homes))]
        peers = {home.name: ["127.0.0.1", port] for home, port in zip(self.homes, ports, strict=True)}
        for i in range(len(self.homes)):
            await self.ask(i, "connect_peers", run_id=RUN, peers=peers)

    def run(self, node: int) -> Path:
        """The run directory on a node."""
        return self.homes[node].runs / RUN

    async def until(self, node: int, name: str) -> dict[str, Any]:
        """Wait for a JSON file of the run directory."""
        return await until(lambda: read_json(self.run(node) / name))

    async def until_text(self, node: int, name: str, text: str) -> None:
        """Wait until a file of the run directory holds a text."""
        path = self.run(node) / name
        await until(lambda: path.exists() and text in path.read_text())

    def pid(self, node: int) -> int:
        """Of the runner."""
        start = read_json(self.run(node) / "start.json")
        assert start is not None
        return int(start["pid"])

    async def end(self) -> None:
        """Cancel the runs that are left and wait until their runners have ended."""
        for i in range(len(self.homes)):
            if self.run(i).exists():
                await self.ask(i, "cancel", run_id=RUN)
        await until(lambda: not any(runner_is_alive(self.run(i)) for i in range(len(self.homes))))


async def silent(frame: dict[str, Any]) -> None:
    """Drop a frame: this run is not followed."""


def exists(pid: int) -> bool:
    """Whether a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
