"""Two good nodes with runs of their own, beside nodes that are bad: agents that err, lie, flood or hang, and odd run directories.

All are embedded nodes of one real control centre. A process that sleeps plays the runner of the run that goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from paceline.engine.agent.system.processes import boot_id, start_time
from paceline.engine.control import Control
from paceline.engine.errors import NodeUnreachable, PacelineError
from paceline.engine.jobs.logs.read import LogQuery
from paceline.engine.plan import CasePlan, DataPlan, NodePlan, Plan, RankPlan
from paceline.engine.specs import DeviceSpec, Inventory, NodeSpec
from paceline.engine.ssh.bundle import bundle
from paceline.engine.wire import dumps, to_plain

from .hostile_agent import ENDED, RUN

GOOD = ("g1", "g2")
EVERY_DIRECTORY = "every odd directory"
"""The kind of a node that has a run of each odd kind."""


def _odd(run: Path, name: str, put: Callable[[Path], object]) -> None:
    path = run / name
    path.unlink(missing_ok=True)
    put(path)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 34)


ODD_DIRECTORIES: dict[str, Callable[[Path], object]] = {
    "start.json is {}": lambda run: _odd(run, "start.json", lambda path: path.write_text("{}")),
    "start.json of wrong types": lambda run: _odd(
        run, "start.json", lambda path: path.write_text('{"pid": "x", "boot_id": 7, "start_time": null, "wall_time": "now"}')
    ),
    "start.json is a directory": lambda run: _odd(run, "start.json", lambda path: path.mkdir()),
    "start.json is a FIFO": lambda run: _odd(run, "start.json", os.mkfifo),
    "start.json is deep": lambda run: _odd(run, "start.json", lambda path: path.write_text("[" * 100_000)),
    "start.json has 16 GiB": lambda run: _odd(run, "start.json", _sparse),
    "spec.json is a FIFO": lambda run: _odd(run, "spec.json", os.mkfifo),
    "spec.json is a link to nowhere": lambda run: _odd(run, "spec.json", lambda path: path.symlink_to("nowhere")),
    "plan.json holds texts": lambda run: _odd(run, "plan.json", lambda path: path.write_text('{"nodes": ["a", 7], "data": "x"}')),
    "plan.json is a list": lambda run: _odd(run, "plan.json", lambda path: path.write_text("[1]")),
    "exit.json is {}": lambda run: _odd(run, "exit.json", lambda path: path.write_text("{}")),
    "exit.json of wrong types": lambda run: _odd(
        run, "exit.json", lambda path: path.write_text('{"state": ["done"], "rank": "x", "reason": {"a": 1}}')
    ),
    "lease.json of wrong types": lambda run: _odd(
        run, "lease.json", lambda path: path.write_text('{"epoch": "9", "holder": ["x"]}')
    ),
    "a rank file is a directory": lambda run: _odd(run, "ranks/0.jsonl", lambda path: path.mkdir()),
    "a rank file is a FIFO": lambda run: _odd(run, "ranks/0.jsonl", os.mkfifo),
    "a rank file is a link to /dev/zero": lambda run: _odd(run, "ranks/0.jsonl", lambda path: path.symlink_to("/dev/zero")),
    "a step is null": lambda run: _odd(run, "ranks/0.jsonl", lambda path: path.write_text('{"kind":"StepsTaken","step":null}\n')),
    "a step is a list": lambda run: _odd(run, "ranks/0.jsonl", lambda path: path.write_text('["StepsTaken"]\n["StepsTaken"]\n')),
    "events.jsonl is a FIFO": lambda run: _odd(run, "events.jsonl", os.mkfifo),
    "out.log is a link out of the run": lambda run: _odd(run, "out.log", lambda path: path.symlink_to("/etc/passwd")),
}
"""By kind, what is done to the directory of a run that the bad node has."""


def plan_of(run_id: str, nodes: Sequence[str]) -> Plan:
    """One rank a node."""
    parts = tuple(NodePlan(name, i, (i,), "127.0.0.1", "lo", "python3") for i, name in enumerate(nodes))
    ranks = tuple(RankPlan(i, name, i, 0, 0, "emulated", "RTX 3060") for i, name in enumerate(nodes))
    data = DataPlan("0" * 64, "made up", 1, "0" * 64)
    return Plan(run_id, "digits-cnn", (CasePlan("equal", "equal"),), parts, ranks, data, 1, 8)


def write_run(run: Path, nodes: Sequence[str], rank: int, pid: int | None) -> None:
    """A run directory as a runner writes it; ``pid``: of its runner, None: it is done."""
    (run / "ranks").mkdir(parents=True)
    (run / "spec.json").write_text('{"workload": "digits-cnn", "policies": ["equal"]}')
    (run / "plan.json").write_text(dumps(to_plain(plan_of(run.name, nodes))))
    started = {
        "port": 1,
        "pid": pid or 2**22 + 1,
        "boot_id": boot_id(),
        "start_time": start_time(pid) if pid else 0,
        "wall_time": 1e9,
    }
    (run / "start.json").write_text(json.dumps(started))
    (run / "events.jsonl").write_text('{"kind":"LaunchStarted"}\n')
    (run / "out.log").write_text(f"output of {run.parents[1].name}\n")
    (run / "ranks" / f"{rank}.jsonl").write_text('{"kind":"StepsTaken","step":41}\n')
    if pid is None:
        (run / "exit.json").write_text('{"state": "done"}')


class HostileLab:
    """A lab directory: good nodes ``g1`` and ``g2``, and one bad node a kind. ``processes`` play the runners of the good nodes."""

    def __init__(self, path: Path, kinds: Sequence[str]) -> None:
        self.path = path
        self.bad = {"bad" if number == 0 else f"bad{number}": kind for number, kind in enumerate(kinds)}
        self.processes: list[subprocess.Popen[bytes]] = []
        device = (DeviceSpec("RTX 3060", 1.0, 1 << 30),)
        nodes = [NodeSpec(name, kind="embedded", devices=device) for name in GOOD]
        for name, kind in self.bad.items():
            nodes.append(NodeSpec(name, kind="embedded", devices=device, python=self._stand_in(name, kind)))
        self.inventory = Inventory(str(path / "nodes.toml"), tuple(nodes))
        for rank, name in enumerate(GOOD):
            self._place_bundle(name)
            process = subprocess.Popen(["sleep", "600"], start_new_session=True)
            self.processes.append(process)
            write_run(self.root(name) / "runs" / RUN, GOOD, rank, process.pid)
            write_run(self.root(name) / "runs" / ENDED, GOOD, rank, None)
        for name, kind in self.bad.items():
            self._place_bundle(name)
            for number, odd in enumerate(ODD_DIRECTORIES):
                if kind in (odd, EVERY_DIRECTORY):
                    run = self.root(name) / "runs" / f"20260101-0003-cccc{number:02d}"
                    write_run(run, (name,), 0, None)
                    ODD_DIRECTORIES[odd](run)

    def root(self, name: str) -> Path:
        """The directory of a node."""
        return self.path / "logs" / "nodes" / name

    def close(self) -> None:
        """End the processes that play runners."""
        for process in self.processes:
            process.kill()
            process.wait()

    def _stand_in(self, name: str, kind: str) -> str | None:
        """A program in the place of Python; None: the node's agent is ours, its directory is odd."""
        if kind in (*ODD_DIRECTORIES, EVERY_DIRECTORY):
            return None
        program = self.path / f"python-{name}"
        agent = Path(__file__).with_name("hostile_agent.py")
        program.write_text(f"#!/bin/sh\nexec {sys.executable} -S -E {agent} '{kind}'\n")
        program.chmod(0o755)
        return str(program)

    def _place_bundle(self, name: str) -> None:
        """As if it had been sent before: what is measured here is not the upload."""
        bundles = self.root(name) / "bundles"
        bundles.mkdir(parents=True)
        (bundles / bundle().name).write_bytes(bundle().data)


@contextlib.asynccontextmanager
async def opened(lab: HostileLab) -> AsyncIterator[Control]:
    """A control centre on the lab."""
    control = Control(lab.inventory)
    await control.open()
    try:
        yield control
    finally:
        await control.close()


async def _reap(processes: list[subprocess.Popen[bytes]]) -> None:
    """Notice the end of the processes that play runners, as the kernel does for a detached one."""
    while True:
        for process in processes:
            process.poll()
        await asyncio.sleep(0.05)


async def play(lab: HostileLab) -> tuple[dict[str, float], float, list[str]]:
    """Ask for status, jobs, logs and a cancel, each in a session of its own as the command line does.

    Returns seconds by verb, the longest stall of the loop, and what was wrong.
    """
    seconds: dict[str, float] = {}
    wrong: list[str] = []
    stalls: list[float] = []
    tasks = [asyncio.create_task(_tick(stalls)), asyncio.create_task(_reap(lab.processes))]
    try:
        for verb, ask in VERBS.items():
            began = time.monotonic()
            async with opened(lab) as control:
                try:
                    wrong += await ask(control)
                except PacelineError as error:
                    wrong.append(f"{verb}: {error}")
                seconds[verb] = time.monotonic() - began
    finally:
        for task in tasks:
            task.cancel()
        lab.close()
    for name in GOOD:
        ended = json.loads((lab.root(name) / "runs" / RUN / "exit.json").read_bytes() if _has_ended(lab, name) else b"{}")
        if ended.get("state") != "cancelled":
            wrong.append(f"cancel: {name} has {ended}")
    return seconds, max(stalls, default=0.0), wrong


def _has_ended(lab: HostileLab, name: str) -> bool:
    return (lab.root(name) / "runs" / RUN / "exit.json").exists()


async def _tick(stalls: list[float]) -> None:
    """How late a key would be handled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + 0.01
        await asyncio.sleep(0.01)
        stalls.append(loop.time() - due)


async def _status(control: Control) -> list[str]:
    nodes = {node["name"]: node for node in (await control.status())["nodes"]}
    return [f"status: {nodes[name]}" for name in GOOD if nodes[name]["state"] != "ok" or len(nodes[name]["devices"]) != 1]


async def _jobs(control: Control) -> list[str]:
    rows = {row["run_id"]: row for row in (await control.jobs())["runs"]}
    facts = {run: (rows[run]["state"], rows[run]["nodes"], rows[run]["step"]) for run in (RUN, ENDED)}
    expected = {RUN: ("running", list(GOOD), 41), ENDED: ("done", list(GOOD), 41)}
    return [] if facts == expected else [f"jobs: {facts}"]


async def _logs(control: Control) -> list[str]:
    document = await control.logs(RUN, LogQuery(lines=100))
    texts = {line["text"] for line in document["lines"]}
    return [] if {f"output of {name}" for name in GOOD} <= texts else [f"logs: {sorted(texts)}"]


async def _cancel(control: Control) -> list[str]:
    try:
        document: dict[str, Any] = await control.cancel(RUN)
    except NodeUnreachable as error:  # the bad node says that the run is on it, too
        return [] if "bad" in str(error) else [f"cancel: {error}"]
    return [] if (document["state"], document["survivors"]) == ("cancelled", []) else [f"cancel: {document}"]


VERBS = {"status": _status, "jobs": _jobs, "logs": _logs, "cancel": _cancel}
