"""Random schedules of faults on a real lab: ``python -m benchmarks.jobs.schedules [COUNT [FIRST]]``, 20 by default, 25 minutes.

Four nodes with five emulated devices train a small network: real runners, torchruns and gloo, and as root each node in a network
namespace of its own. Workers and nodes are killed, stopped and cut off, drained, started again and brought back, and the centre
dies, at moments drawn from a seed. In the end all is well again, and every run trains to its last epoch. Seeds are 0, 1, 2, ..., so
a schedule can be played again.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paceline.engine.agent.runs.run_dir import runner_is_alive
from paceline.engine.agent.system.processes import pids_of_run
from paceline.engine.errors import PacelineError
from paceline.engine.jobs.members.watch import MemberWatch
from paceline.engine.protocol.json_files import read_json
from paceline.engine.protocol.run_files import MEMBERS_FILE

from benchmarks.table import Figure, print_figures, write_csv
from tests.support.network_lab import Network, missing_requirement
from tests.support.runs.elastic_lab import ElasticLab, undisturbed_loss

COUNT = 20
NODES = [[8.0], [8.0, 8.0], [8.0], [8.0]]
EPOCHS = 120
FAULT_SECONDS = 30.0
MAX_STALL_S = 30.0
END_S = 180.0
SEEDS = 5
KINDS = (
    *("kill node", "kill node", "kill worker", "stop node", "stop worker", "cut", "cut", "return", "drain", "grow"),
    "centre dies",
)
"""Drawn from; what stands here twice is twice as frequent."""


@dataclass
class Played:
    """What was seen of one schedule."""

    seed: int
    faults: list[str]
    generations: int
    stall: float
    """Longest time between two steps of the run while no side had said that it waits, seconds."""
    repeated: int
    loss: float
    wrong: str
    """What must not be; empty: nothing."""


class Schedule:
    """One run and its faults."""

    def __init__(self, seed: int, lab: ElasticLab) -> None:
        self.draw, self.lab = random.Random(seed), lab
        self.faults: list[str] = []
        self.began = time.monotonic()
        self._later: list[tuple[float, Any]] = []
        self._stopped: set[str] = set()
        self._watch: asyncio.Task[None] | None = None
        self._open_centre()

    def _open_centre(self) -> None:
        if self._watch is None:
            fleet: Any = self.lab
            watch = MemberWatch(self.lab.plan.run_id, self.lab.names, fleet, {}, lambda event: None)
            self._watch = asyncio.ensure_future(watch.run())

    async def _close_centre(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            self._watch = None

    async def play(self) -> None:
        """All faults, then all is well again. Ends when every node has ended."""
        end = self.began + FAULT_SECONDS
        following = time.monotonic() + 1.0
        while time.monotonic() < end and not self._is_over():
            await asyncio.sleep(0.05)
            for moment, undo in list(self._later):
                if time.monotonic() >= moment:
                    self._later.remove((moment, undo))
                    undo()
            if time.monotonic() >= following:
                following += self.draw.expovariate(1 / 4.0)
                await self._fault()
        for _, undo in self._later:
            undo()
        self._note("all is well again")
        self._open_centre()
        deadline = time.monotonic() + END_S
        while not self._is_over() and time.monotonic() < deadline:
            await asyncio.sleep(0.5)
            for name in self.lab.names:  # a drained node comes back, too
                with contextlib.suppress(PacelineError):
                    await self.lab.ask(name, "come_back", run_id=self.lab.plan.run_id)
        await self._close_centre()

    def _is_over(self) -> bool:
        """Whether every node has ended, or is dead while no other trains."""
        ends = [self.lab.ended(name) is not None for name in self.lab.names]
        alive = [runner_is_alive(self.lab.run(name)) for name in self.lab.names]
        return any(ends) and not any(alive)

    def _note(self, what: str) -> None:
        self.faults.append(f"{time.monotonic() - self.began:.1f} {what}")

    def _after(self, undo: Any) -> None:
        self._later.append((time.monotonic() + self.draw.uniform(0.5, 10.0), undo))

    def _members(self) -> set[str]:
        """Nodes of the newest generation that any node knows and whose processes have formed it."""
        newest: dict[str, Any] = {}
        for name in self.lab.names:
            for line in _members_lines(self.lab, name):
                newest = max(newest, line, key=lambda one: int(one.get("number", -1)))
        if not newest:
            return set(self.lab.names)
        numbers = [number for member in newest["members"] for number in member["numbers"]]
        last = {number: self.lab.events(number, "GroupReformed")[-1:] for number in numbers}
        formed = {number for number, events in last.items() if any(e["generation"] == newest["number"] for e in events)}
        return {member["name"] for member in newest["members"] if set(member["numbers"]) <= formed}

    async def _fault(self) -> None:
        lab, kind, name = self.lab, self.draw.choice(KINDS), self.draw.choice(self.lab.names)
        number = self.draw.randrange(len(lab.plan.ranks))
        alive = {one for one in self._members() if runner_is_alive(lab.run(one)) and one not in self._stopped}
        if kind in ("kill node", "kill worker") and len(alive - {name}) < 2:
            return  # where nobody holds the state any more, checkpoints are left: another promise
        self._note(f"{kind} {name if kind != 'kill worker' else number}")
        match kind:
            case "kill node":
                lab.signal(lab.processes(name), signal.SIGKILL)
                if self.draw.random() < 0.5:  # else its machine answers at once
                    lab.unreachable.add(name)
                    self._after(lambda: lab.unreachable.discard(name))
            case "stop node" if runner_is_alive(lab.run(name)):
                stopped = lab.processes(name)
                self._stopped.add(name)
                lab.signal(stopped, signal.SIGSTOP)
                self._after(lambda: self._go_on(name, stopped))
            case "stop worker" | "kill worker":
                signum = signal.SIGSTOP if kind == "stop worker" else signal.SIGKILL
                lab.signal(self._workers(number), signum)
            case "cut" if (network := lab.network) is not None and name not in network.cut_off:
                network.cut(name)
                self._after(lambda: network.restore(name))
            case "drain" | "grow" | "return":
                word: dict[str, Any] = {"reason": "drained by a person"} if kind == "drain" else {}
                with contextlib.suppress(PacelineError):
                    async with asyncio.timeout(15.0):
                        await lab.ask(name, "drain" if kind == "drain" else "come_back", run_id=lab.plan.run_id, **word)
            case "centre dies":
                await self._close_centre()
                self._after(self._open_centre)

    def _go_on(self, name: str, processes: list[int]) -> None:
        self._stopped.discard(name)
        self.lab.signal(processes, signal.SIGCONT)

    def _workers(self, device: int) -> list[int]:
        """The newest process on a device."""
        found = []
        for name in self.lab.names:
            for path in (self.lab.run(name) / "ranks").glob("*.jsonl"):
                joined = [event for event in self.lab.events(int(path.stem), "RankJoined") if event.get("rank", 0) == device]
                found += [(int(path.stem), int(event["pid"])) for event in joined]
        newest = max(found, default=None)
        return [newest[1]] if newest is not None and newest[1] in self.lab.processes(self.lab.plan.ranks[device].node) else []


def _members_lines(lab: ElasticLab, name: str) -> Iterator[dict[str, Any]]:
    path = lab.run(name) / MEMBERS_FILE
    for line in path.read_text().splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):
            yield json.loads(line)


def _stall(lab: ElasticLab) -> float:
    """Longest time between two steps, less what a side had said that it waits."""
    moments = sorted(event["node_time"] for number in range(200) for event in lab.events(number, "StepsTaken"))
    waits = []
    for name in lab.names:
        path = lab.run(name) / "events.jsonl"
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        waits += [json.loads(line)["node_time"] for line in lines if '"MembersWaited"' in line]
    gaps = [(after - before, before, after) for before, after in itertools.pairwise(moments)]
    return max((gap for gap, before, after in gaps if not any(before <= wait <= after for wait in waits)), default=0.0)


def _wrong(lab: ElasticLab) -> str:
    """What must not be at the end of a run; empty: nothing."""
    ends = {name: read_json(lab.run(name) / "exit.json") for name in lab.names}
    done = {name: end for name, end in ends.items() if end is not None and end["state"] == "done"}
    gone = [name for name in lab.names if name not in done]  # killed too late to return
    is_right = done and all(ends[name] is None and all(name in end["gone"] for end in done.values()) for name in gone)
    if not is_right:
        return f"ended as { {name: None if end is None else end['state'] for name, end in ends.items()} }"
    decided: dict[int, Any] = {}
    for name in lab.names:
        for line in _members_lines(lab, name):
            if decided.setdefault(line["number"], line["members"]) != line["members"]:
                return f"two generations {line['number']}"
    ended = [event for number in range(200) for event in lab.events(number, "EpochEnded")]
    epochs = sorted(event.get("epoch", 0) for event in ended)
    if epochs != list(range(EPOCHS)) or {event["samples"] for event in ended} != {96}:
        return "an epoch is missing, stands twice, or lacks samples"
    if left := [pid for name in lab.names for pid in pids_of_run(lab.plan.run_id, lab.homes[name].root)]:
        return f"{len(left)} processes are left"
    return ""


async def play(place: Path, seed: int) -> Played:
    """One schedule."""
    network = None if missing_requirement() else Network([f"n{number}" for number in range(len(NODES))])
    lab = ElasticLab(place, NODES, epochs=EPOCHS, seed=seed % SEEDS, network=network)
    try:
        await lab.start()
        await lab.until_training(list(range(5)))
        schedule = Schedule(seed, lab)
        await schedule.play()
        wrong = _wrong(lab)
        if wrong:
            print(lab.report(), flush=True)
        ended = [event for number in range(200) for event in lab.events(number, "EpochEnded")]
        reformed = [event for number in range(200) for event in lab.events(number, "GroupReformed")]
        return Played(
            seed,
            schedule.faults,
            max((event["generation"] for event in reformed), default=0),
            _stall(lab),
            max((event.get("repeated_steps", 0) for event in reformed), default=0),
            float(max(ended, key=lambda event: int(event.get("epoch", 0)))["loss"]) if ended else float("nan"),
            wrong,
        )
    finally:
        lab.unreachable.clear()
        if network is not None:
            for name in sorted(network.cut_off):
                network.restore(name)
        await lab.end()
        if network is not None:
            network.close()


def measure(count: int = COUNT, first: int = 0) -> list[Figure]:
    """Play so many schedules."""
    losses = {}
    for seed in range(SEEDS):
        with tempfile.TemporaryDirectory(prefix="undisturbed-") as place:
            losses[seed] = asyncio.run(undisturbed_loss(Path(place), EPOCHS, seed))
    low, high = min(losses.values()), max(losses.values())
    print(f"five undisturbed seeds end at a loss of {low:.3e} to {high:.3e}", flush=True)
    played = []
    for seed in range(first, first + count):
        with tempfile.TemporaryDirectory(prefix="schedule-", ignore_cleanup_errors=True) as place:
            one = asyncio.run(play(Path(place), seed))
        played.append(one)
        parts = f"{one.generations} generations, stall {one.stall:.1f} s, {one.repeated} repeated, loss {one.loss:.4e}"
        print(f"schedule {seed}: {parts} of {losses[seed % SEEDS]:.4e} {one.wrong or 'right'}; {'; '.join(one.faults)}", flush=True)
    names = ("seed", "faults", "generations", "stall_seconds", "repeated_steps", "loss", "undisturbed_loss", "wrong")
    rows = [
        (p.seed, len(p.faults), p.generations, p.stall, p.repeated, p.loss, losses[p.seed % SEEDS], p.wrong or "-") for p in played
    ]
    write_csv("jobs_schedules", names, rows)
    wrong = [one for one in played if one.wrong]
    outside = [one for one in played if not low <= one.loss <= high]
    apart = max(abs(one.loss / losses[one.seed % SEEDS] - 1) for one in played)
    stall, repeated = max(one.stall for one in played), max(one.repeated for one in played)
    what = f"{count} real schedules, {sum(len(one.faults) for one in played)} faults"
    return [
        Figure(f"{what}: sample lost or doubled, orphan, split brain", "0", str(len(wrong)), not wrong),
        Figure("longest stall of a side that had not said that it waits", "<= 30 s", f"{stall:.1f} s", stall <= MAX_STALL_S),
        Figure("final loss outside the interval of five undisturbed seeds", "0", str(len(outside)), not outside),
        Figure("final loss from that of the same seed undisturbed", "—", f"{apart:.1e} relative", True),
        Figure("steps repeated at a change of members", "<= 1", str(repeated), repeated <= 1),
    ]


def main() -> int:
    """Measure and print. Returns 1 where a goal was missed."""
    return print_figures(measure(*map(int, sys.argv[1:3])))


if __name__ == "__main__":
    sys.exit(main())
