"""Drawn labs run by Paceline itself, as embedded nodes: profiled, advised, then trained; and the load that disturbs them.

EMULATED devices and links; everything else is real: control process, agents, runners, ranks, gloo.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import mean
from typing import Any

from paceline.engine.training.emulation.device import BYTES_PER_ACTIVATION, BYTES_PER_PARAMETER, CONTEXT_BYTES
from paceline.engine.workloads import WORKLOADS

from benchmarks.advice.simulated_lab import SimulatedDevice, SimulatedLab
from benchmarks.places import CHECKOUT
from benchmarks.table import print_line, write_csv

WORKLOAD = WORKLOADS["digits-cnn"]
ACTIVATIONS = 16 * 64 + 32 * 16 + 64 + 10
"""Outputs of the stages of digits-cnn for one sample."""
SAMPLES = 1438
TRAINING_SECONDS = 10.0
"""Seconds of training after the first epoch that a case should take."""
NEUTRAL = 0.05
MIN_EQUAL_SHARE = 0.3
"""Equal shares are measured where they are predicted to reach this fraction of the best shares."""
COMMAND_SECONDS = 400.0


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One policy of one lab."""

    policy: str
    predicted: float
    doubt: float
    measured: float

    @property
    def off(self) -> float:
        """Predicted over measured throughput, less one."""
        return self.predicted / self.measured - 1


@dataclass(frozen=True, slots=True)
class RealResult:
    """What was said of one lab, and what a run of it showed."""

    kind: str
    is_consistent: bool
    """Whether the headline says what the recommendation does."""
    gain: float
    """Measured throughput of the headline's devices over the best device alone at the same batch."""
    cases: tuple[CaseResult, ...]
    warnings: tuple[str, ...]

    @property
    def is_right(self) -> bool:
        """Whether the verdict has the sign of what was measured; within the neutral band either is right."""
        return abs(self.gain - 1) <= NEUTRAL or (self.kind == "pays") == (self.gain > 1)


def draw_real_lab(seed: int) -> SimulatedLab:
    """A lab that two cores can play: up to four devices, steps of 20 ms or more."""
    random = Random(f"real lab {seed}")
    world = random.randint(2, 4)
    most_fixed = random.choice((0.0, 0.03, 0.06))
    devices = [
        SimulatedDevice(
            rate=WORKLOAD.emulated_rate * round(2 ** random.uniform(2.3, 3.8), 2),
            fixed=round(random.uniform(0, most_fixed), 4),
            largest=random.choice((None, None, random.randint(24, 200))),
        )
        for _ in range(world)
    ]
    if random.random() < 0.4:  # it takes longer for one sample than the others for the whole batch
        devices[random.randrange(world)] = SimulatedDevice(rate=WORKLOAD.emulated_rate * 0.2, fixed=0.9)
    return SimulatedLab(
        devices=tuple(devices),
        latency=10 ** random.uniform(-4, -2.3),
        bandwidth=10 ** random.uniform(6.7, 9),
        jitter=random.choice((0.0, 0.05)),
        stage_bytes=(1,),
        optimizer_seconds=0.0,
        batch=random.choice((random.randint(32, 96), 256, 384, 3072)),
        samples=SAMPLES,
    )


def nodes_file(lab: SimulatedLab) -> str:
    """The nodes.toml of a lab."""
    lines = [f'[link]\nlatency = "{lab.latency * 1e6:.0f} us"\nbandwidth = "{lab.bandwidth / 1e6:.3f} MB/s"\njitter = {lab.jitter}']
    for index, device in enumerate(lab.devices):
        room = device.largest or 200_000
        memory = (
            CONTEXT_BYTES + BYTES_PER_PARAMETER * WORKLOAD.parameters + (room + 0.5) * BYTES_PER_ACTIVATION * ACTIVATIONS
        ) / 2**20
        speed = device.rate / WORKLOAD.emulated_rate
        facts = f'speed = {speed:.4f}, memory = "{memory:.4f} MiB", fixed = "{device.fixed * 1000:.4f} ms"'
        lines.append(f'[[node]]\nname = "n{index}"\nkind = "embedded"\ndevices = [{{ name = "card {index}", {facts} }}]')
    return "\n\n".join(lines) + "\n"


@contextlib.contextmanager
def busy_cores(count: int) -> Iterator[None]:
    """Keep so many cores busy meanwhile."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def run_lab(lab: SimulatedLab, profile_load: int = 0, run_load: int = 0) -> RealResult:
    """Profile, advise and train one lab; ``profile_load`` and ``run_load``: cores that are kept busy meanwhile."""
    with tempfile.TemporaryDirectory() as place:
        nodes = Path(place) / "nodes.toml"
        nodes.write_text(nodes_file(lab))
        with busy_cores(profile_load):
            _paceline(nodes, "profile", "--workload", WORKLOAD.name)
        batch = ("--workload", WORKLOAD.name, "--global-batch-size", str(lab.batch))
        with busy_cores(run_load):
            advice = _paceline(nodes, "advise", *batch)
            used = advice["global_batch_size"]
            groups = [one for one in advice["candidates"] if one["global_batch_size"] == used and len(one["devices"]) > 1]
            recommended = advice["recommended"]
            head = recommended if len(recommended["devices"]) > 1 else groups[0]
            devices = ",".join(f"{device['node']}:{device['index']}" for device in head["devices"])
            epochs = 2 + round(TRAINING_SECONDS * head["samples_per_second"] / SAMPLES)
            policies = ("--policies", ",".join(_policies(head, groups)))
            run = _paceline(nodes, "bench", *batch, "--devices", devices, "--epochs", str(min(40, max(3, epochs))), *policies)
    cases = tuple(
        CaseResult(case["policy"], case["predicted_samples_per_second"], case["predicted_doubt"], case["samples_per_second"])
        for case in run["cases"]
    )
    policy = "equal" if head["policy"] == "equal" else "hybrid"
    gain = next(case["speedup_over_best_device"] for case in run["cases"] if case["policy"] == policy)
    is_group = len(recommended["devices"]) > 1
    is_consistent = advice["verdict"].startswith("It pays") == is_group == (advice["verdict_kind"] == "pays")
    return RealResult(advice["verdict_kind"], is_consistent, gain, cases, tuple(run["warnings"]))


def _policies(head: dict[str, Any], groups: list[dict[str, Any]]) -> list[str]:
    """Both policies, unless equal shares of the headline's devices would take too long to measure."""
    (equal,) = [one for one in groups if one["devices"] == head["devices"] and one["policy"] == "equal"]
    is_slow = equal["samples_per_second"] < MIN_EQUAL_SHARE * head["samples_per_second"]
    return ["hybrid"] if is_slow else ["hybrid", "equal"]


def _paceline(nodes: Path, *words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "paceline.tui", "--batch", "--json", "-q", "--nodes", str(nodes), *words]
    try:
        ended = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        if words[0] not in ("jobs", "cancel"):
            for run in _paceline(nodes, "jobs")["runs"]:  # runs are detached: they would go on without this process
                _paceline(nodes, "cancel", run["run_id"])
        raise
    if ended.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {ended.returncode}: {ended.stderr[-2000:]}")
    document: dict[str, Any] = json.loads(ended.stdout)
    return document


def describe(seed: int, lab: SimulatedLab, result: RealResult) -> str:
    """One line about one lab."""
    cases = ", ".join(f"{case.policy} {case.measured:.0f}/s off {case.off:+.1%} ± {case.doubt:.0%}" for case in result.cases)
    return f"  lab {seed}: {len(lab.devices)} devices, batch {lab.batch}: {result.kind}, measured {result.gain:.2f}x; {cases}"


def run_real_labs(count: int) -> bool:
    """Run the first drawn labs, print the figures; whether all goals were met."""
    results = []
    for seed in range(count):
        lab = draw_real_lab(seed)
        results.append(run_lab(lab))
        print(describe(seed, lab, results[-1]), flush=True)
    off = [case.off for result in results for case in result.cases]
    rows = [(seed, result.kind, result.gain, *(case.off for case in result.cases)) for seed, result in enumerate(results)]
    write_csv("advice_real_labs", ("lab", "verdict", "gain", "error hybrid", "error equal"), rows)
    figure = f"{mean(map(abs, off)):.1%}, largest {max(map(abs, off)):.1%}, {len(off)} runs of {count} labs"
    right = sum(result.is_right for result in results)
    against = sum(not result.is_consistent for result in results)
    is_met = mean(map(abs, off)) <= 0.03, right >= 0.97 * count, against == 0
    print_line("EMULATED throughput of drawn labs predicted (MAPE)", "<= 3 %", figure, is_met[0])
    print_line("EMULATED sign of the verdict of drawn labs", ">= 97 %", f"{right} of {count}", is_met[1])
    print_line("EMULATED headlines against the recommendation", "0", str(against), is_met[2])
    return all(is_met)
