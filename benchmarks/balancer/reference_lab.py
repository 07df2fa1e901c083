"""The reference lab as the benchmarks use it: four emulated devices in a directory of its own, behind the real command line.

Everything but the devices is real: SSH, torchrun, gloo, the mathematics. Figures come from the byte copies of what the ranks wrote.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from paceline.engine.balancer.allocate import allocate
from paceline.engine.balancer.step_time import StepTime, slowest_seconds
from paceline.engine.events import RankEvent
from paceline.engine.wire import decode
from paceline.engine.workloads import WORKLOADS

WORKLOAD = "digits-cnn"
DEVICES = (("RTX 3060", 12.7, "12GiB"), ("RTX 3050", 9.1, "8GiB"), ("GTX 1650", 3.0, "4GiB"), ("GTX 1650", 3.0, "4GiB"))
"""Name, declared speed and memory; each on a node of its own, rank after rank."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One device slower by script for a while."""

    rank: int
    at_step: int
    until_step: int
    """First step at full speed again."""
    slowdown: float = 2.0
    cause: str = "thermal"

    def is_active(self, step: int) -> bool:
        """Whether it acts in that step of a case."""
        return self.at_step <= step < self.until_step


def declared(faults: Sequence[Fault] = (), step: int = -1) -> tuple[StepTime, ...]:
    """What every device needs in that step by declaration: what an oracle would know."""
    rate = WORKLOADS[WORKLOAD].emulated_rate
    times = [StepTime(0.0, 1.0 / (speed * rate)) for _, speed, _ in DEVICES]
    for fault in faults:
        if fault.is_active(step):
            times[fault.rank] = times[fault.rank].scaled(fault.slowdown)
    return tuple(times)


def oracle_seconds(times: Sequence[StepTime], samples: int) -> float:
    """Compute seconds of a step at the best whole local batch sizes."""
    return slowest_seconds(times, allocate(times, samples))


@dataclass(slots=True)
class Outcome:
    """One run: its document and every line its ranks wrote."""

    document: dict[str, Any]
    lines: list[RankEvent] = field(default_factory=list)

    def of(self, kind: type[RankEvent], case: str) -> Iterator[Any]:
        """Lines of one kind of one case, rank after rank, in the order they were written."""
        return (line for line in self.lines if type(line) is kind and line.case == case)


@contextmanager
def lab(faults: Sequence[Fault] = (), noise: str = "") -> Iterator[Lab]:
    """A fresh lab, gone afterwards; ``noise`` are further keys of every device."""
    with TemporaryDirectory(prefix="paceline-lab-") as directory:
        (Path(directory) / "nodes.toml").write_text(_nodes(faults, noise))
        yield Lab(Path(directory))


@dataclass(frozen=True, slots=True)
class Lab:
    """A directory with a nodes.toml, and the command line started in it."""

    path: Path

    def run(self, *words: str) -> Outcome:
        """``paceline --batch --json`` with these words, to its end."""
        command = [sys.executable, "-m", "paceline.tui", "--batch", "--json", *words]
        environment = {**os.environ, "HOME": str(self.path)}
        done = subprocess.run(command, cwd=self.path, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(words)} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
        outcome = Outcome(json.loads(done.stdout))
        copies = self.path / "logs" / "runs" / outcome.document["run_id"] / "nodes"
        for path in sorted(copies.glob("*/ranks/*.jsonl")):
            lines = (decode(line) for line in path.read_bytes().splitlines())
            outcome.lines += [line for line in lines if isinstance(line, RankEvent)]
        return outcome


def _nodes(faults: Sequence[Fault], noise: str) -> str:
    text = ""
    for rank, (name, speed, memory) in enumerate(DEVICES):
        keys = f'name = "{name}", speed = {speed}, memory = "{memory}"' + (f", {noise}" if noise else "")
        text += f'[[node]]\nname = "demo{rank + 1}"\nkind = "embedded"\ndevices = [{{ {keys} }}]\n'
        for fault in faults:
            if fault.rank == rank:
                script = f"at_step = {fault.at_step}\nuntil_step = {fault.until_step}\nslowdown = {fault.slowdown}\n"
                text += f'[[node.fault]]\n{script}cause = "{fault.cause}"\n'
    return text
