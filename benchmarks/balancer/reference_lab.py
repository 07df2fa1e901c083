"""The reference lab of the benchmarks: four emulated devices in a temporary directory, used through the command line.

Everything but the devices is real: SSH, torchrun, gloo, the arithmetic. Figures come from the copies of the ranks' files.
"""

from __future__ import annotations

import json
import os
import signal
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
from paceline.engine.states import FaultCause
from paceline.engine.wire import decode
from paceline.engine.workloads import WORKLOADS

WORKLOAD = "digits-cnn"
Device = tuple[str, float, str]
DEVICES: tuple[Device, ...] = (
    ("RTX 3060", 12.7, "12GiB"),
    ("RTX 3050", 9.1, "8GiB"),
    ("GTX 1650", 3.0, "4GiB"),
    ("GTX 1650", 3.0, "4GiB"),
)
"""Name, declared speed and memory, by rank; each device is on a node of its own."""
CANCEL_SECONDS = 60.0
"""Seconds in which an interrupted launch has cancelled its run."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A scripted slowdown of one device."""

    rank: int
    at_step: int
    until_step: int
    """First step at full speed again."""
    slowdown: float = 2.0
    cause: FaultCause = "thermal"

    def is_active(self, step: int) -> bool:
        """Whether the fault affects this step of a case."""
        return self.at_step <= step < self.until_step


def declared(faults: Sequence[Fault] = (), step: int = -1) -> tuple[StepTime, ...]:
    """The declared step time of every device in this step, faults included, as an oracle knows it."""
    rate = WORKLOADS[WORKLOAD].emulated_rate
    times = [StepTime(0.0, 1.0 / (speed * rate)) for _, speed, _ in DEVICES]
    for fault in faults:
        if fault.is_active(step):
            times[fault.rank] = times[fault.rank].scaled(fault.slowdown)
    return tuple(times)


def oracle_seconds(times: Sequence[StepTime], samples: int) -> float:
    """Compute seconds of a step at the best integer local batch sizes."""
    return slowest_seconds(times, allocate(times, samples))


@dataclass(slots=True)
class Outcome:
    """One run: its document and every line of its ranks."""

    document: dict[str, Any]
    lines: list[RankEvent] = field(default_factory=list)

    def of(self, kind: type[RankEvent], case: str) -> Iterator[Any]:
        """Lines of one kind of one case, by rank, in the order written."""
        return (line for line in self.lines if type(line) is kind and line.case == case)


@contextmanager
def lab(faults: Sequence[Fault] = (), noise: str = "", devices: Sequence[Device] = DEVICES) -> Iterator[Lab]:
    """A lab in a temporary directory. ``noise``: further TOML keys of every device."""
    with TemporaryDirectory(prefix="paceline-lab-") as directory:
        (Path(directory) / "nodes.toml").write_text(_nodes(faults, noise, devices))
        yield Lab(Path(directory))


@dataclass(frozen=True, slots=True)
class Lab:
    """A directory with a nodes.toml in which the command line is run."""

    path: Path

    def run(self, *words: str) -> Outcome:
        """Run ``paceline --batch --json`` with these words. Raises SystemExit where it fails."""
        command = [sys.executable, "-m", "paceline.tui", "--batch", "--json", *words]
        environment = {**os.environ, "HOME": str(self.path)}
        pipe = subprocess.PIPE
        with subprocess.Popen(
            command, cwd=self.path, env=environment, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True
        ) as done:
            try:
                out, err = done.communicate()
            except BaseException:  # the run is detached: without a word it would go on
                done.send_signal(signal.SIGINT)
                done.communicate(timeout=CANCEL_SECONDS)
                raise
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(words)} ended with status {done.returncode}:\n{err[-2000:]}")
        outcome = Outcome(json.loads(out))
        copies = self.path / "logs" / "runs" / outcome.document["run_id"] / "nodes"
        for path in sorted(copies.glob("*/ranks/*.jsonl")):
            lines = (decode(line) for line in path.read_bytes().splitlines())
            outcome.lines += [line for line in lines if isinstance(line, RankEvent)]
        return outcome


def _nodes(faults: Sequence[Fault], noise: str, devices: Sequence[Device]) -> str:
    text = ""
    for rank, (name, speed, memory) in enumerate(devices):
        keys = f'name = "{name}", speed = {speed}, memory = "{memory}"' + (f", {noise}" if noise else "")
        text += f'[[node]]\nname = "demo{rank + 1}"\nkind = "embedded"\ndevices = [{{ {keys} }}]\n'
        for fault in faults:
            if fault.rank == rank:
                script = f"at_step = {fault.at_step}\nuntil_step = {fault.until_step}\nslowdown = {fault.slowdown}\n"
                text += f'[[node.fault]]\n{script}cause = "{fault.cause}"\n'
    return text
