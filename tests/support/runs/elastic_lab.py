"""A run that outlives its ranks, on this machine: real runners, torchruns and gloo; ranks and runners are killed and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
from paceline.engine.agent.rpc.dispatch import REQUESTS
from paceline.engine.agent.runs.run_dir import runner_is_alive
from paceline.engine.agent.system.processes import pids_of_run
from paceline.engine.agent.system.state_dir import StateDir
from paceline.engine.errors import NodeUnreachable
from paceline.engine.jobs.doors.certificates import make_certificates
from paceline.engine.plan import Plan
from paceline.engine.protocol.json_files import read_json
from paceline.engine.wire import to_plain

from tests.support.network_lab import INTERFACE, Network
from tests.support.runs.runners import SPEC, silent
from tests.support.runs.training_lab import make_plan, toy_arrays


class Link:
    """The link of a centre to one node."""

    def __init__(self, lab: ElasticLab, name: str) -> None:
        self._lab, self._name = lab, name

    async def ask(self, word: str, **body: Any) -> dict[str, Any]:
        """One request. Raises NodeUnreachable."""
        if self._name in self._lab.unreachable or (self._lab.network is not None and self._name in self._lab.network.cut_off):
            raise NodeUnreachable("no link", node=self._name)
        return await self._lab.ask(self._name, word, **body)


class ElasticLab:
    """One run on several nodes, which are directories. ``speeds``: of the emulated devices, a list for each node."""

    def __init__(
        self,
        path: Path,
        speeds: list[list[float]],
        *,
        epochs: int = 200,
        batch: int = 32,
        min_devices: int = 1,
        seed: int = 0,
        network: Network | None = None,
    ) -> None:
        """``network``: of nodes with these names; None: all are on loopback."""
        plan = make_plan("sp500-mlp", speeds, ["hybrid"], epochs=epochs, batch=batch)
        self.plan: Plan = dataclasses.replace(plan, min_devices=min_devices, seed=seed)
        self.network = network
        if network is not None:
            places = [
                dataclasses.replace(node, address=network.addresses[node.name], interface=INTERFACE) for node in self.plan.nodes
            ]
            self.plan = dataclasses.replace(self.plan, nodes=tuple(places))
        self.names = [node.name for node in plan.nodes]
        self.unreachable: set[str] = set()
        """Nodes that the centre does not reach."""
        self.homes = {name: StateDir(path / name, name) for name in self.names}
        self.certificates = make_certificates(plan.run_id, self.names)
        for home in self.homes.values():
            data = home.root / "data" / plan.data.digest
            data.mkdir(parents=True)
            for name, array in toy_arrays().items():
                np.save(data / f"{name}.npy", array)
            (data / "manifest.json").write_text("{}")

    def run(self, name: str) -> Path:
        """The run directory on a node."""
        return self.homes[name].runs / self.plan.run_id

    async def start(self) -> None:
        """Launch on all nodes and introduce them, as the centre does."""
        body = {"spec": SPEC, "plan": to_plain(self.plan), "env": {"OMP_NUM_THREADS": "1"}}
        peers = {}
        for name in self.names:
            answer = await self.ask(name, "launch", **body, certificates=self.certificates[name])
            peers[name] = [next(node.address for node in self.plan.nodes if node.name == name), answer["port"]]
        for name in self.names:
            await self.ask(name, "connect_peers", run_id=self.plan.run_id, peers=peers)

    async def ask(self, name: str, what: str, **body: Any) -> dict[str, Any]:
        """One request to the agent of a node."""
        if self.network is not None and what in ("launch", "rejoin"):
            with self.network.inside(name):
                return await REQUESTS[what](self.homes[name], body, silent)
        return await REQUESTS[what](self.homes[name], body, silent)

    async def link(self, name: str, patience: float = 0.0) -> Link:
        """The lab as a fleet, for what a centre does. Raises NodeUnreachable where a node is cut off or without power."""
        return Link(self, name)

    def events(self, number: int, kind: str) -> list[dict[str, Any]]:
        """What a process has recorded, of one kind."""
        paths = [path for name in self.names if (path := self.run(name) / "ranks" / f"{number}.jsonl").exists()]
        lines = [line for path in paths for line in path.read_text().splitlines()]
        return [event for line in lines if f'"{kind}"' in line and (event := json.loads(line))["kind"] == kind]

    def pid(self, number: int) -> int:
        """Of the process of a rank."""
        return int(self.events(number, "RankJoined")[0]["pid"])

    def runner(self, name: str) -> int:
        """Pid of the runner of a node."""
        return int((read_json(self.run(name) / "start.json") or {})["pid"])

    def processes(self, name: str) -> list[int]:
        """Runner, torchruns and ranks of a node, the runner first."""
        return [self.runner(name), *pids_of_run(self.plan.run_id, self.homes[name].root)]

    def signal(self, pids: list[int], signum: signal.Signals) -> None:
        """Send a signal to processes."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)

    def ended(self, name: str) -> dict[str, Any] | None:
        """exit.json of a node; None while it goes on."""
        return read_json(self.run(name) / "exit.json")

    async def until(self, what: Any, seconds: float = 120.0) -> Any:
        """Wait for a value that is true."""
        deadline = time.monotonic() + seconds
        while not (value := what()):
            assert time.monotonic() < deadline, self.report()
            await asyncio.sleep(0.02)
        return value

    async def until_training(self, numbers: list[int]) -> None:
        """Wait until these ranks have recorded a step."""
        await self.until(lambda: all(self.events(number, "StepsTaken") for number in numbers))

    async def end(self) -> None:
        """Let stopped processes go on, cancel what is left, and wait until the runners have ended."""
        for name in self.names:
            if self.run(name).exists():
                self.signal(self.processes(name), signal.SIGCONT)
                await self.ask(name, "cancel", run_id=self.plan.run_id, epoch=1)
        await self.until(lambda: not any(runner_is_alive(self.run(name)) for name in self.names))

    def report(self) -> str:
        """What the nodes have to say, for a test that fails."""
        told = []
        for name in self.names:
            for file in ("out.log", "events.jsonl", "members.jsonl", "exit.json"):
                path = self.run(name) / file
                lines = path.read_text(errors="replace").splitlines() if path.exists() else []
                told += [f"{name} {file}: {line[:300]}" for line in lines[-12:] if "ReadingsRecorded" not in line]
        return "\n".join(told)


async def undisturbed_loss(place: Path, epochs: int, seed: int = 0) -> float:
    """Loss after the last epoch of one device alone: any shares of a batch give its gradient."""
    lab = ElasticLab(place, [[32.0]], epochs=epochs, seed=seed)
    try:
        await lab.start()
        await lab.until(lambda: lab.ended("n0"))
        return float(lab.events(0, "EpochEnded")[-1]["loss"])
    finally:
        await lab.end()
