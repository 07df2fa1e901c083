"""What closed doors cost: ``python -m benchmarks.fleet.doors_cost [--pairs N]``.

REAL torchruns, two nodes on this machine with one gloo rank each, and a small program that forms its group as torch's documentation
has it, wraps a network in DDP and steps 200 times. It is started in turn (ABBA) with every door closed, as a run does (our
rendezvous, the store of the runners, sealed ports), and as torchrun does by itself (c10d rendezvous, TCPStore). A difference counts
where its 95 % bootstrap interval leaves out nought. Processor seconds are those of all processes together. Of the 200 steps the
20th fastest counts, which other work on the machine disturbs least. Two minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from paceline.engine.wire import dumps

from benchmarks.places import CHECKOUT
from benchmarks.table import Figure, print_figures, write_csv
from tests.support.runs.store_service import StoreService
from tests.support.runs.training_lab import make_plan

PROGRAM = """
import json, os, sys, time
import torch
import torch.distributed as dist
dist.init_process_group("gloo")
network = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(256, 256))
seconds = []
for step in range(201):
    start = time.perf_counter()
    network(torch.ones(8, 256)).sum().backward()
    seconds.append(time.perf_counter() - start)
    if step == 0:
        first = time.time()
if dist.get_rank() == 0:
    print(json.dumps({"first": first, "step": sorted(seconds[1:])[20]}), flush=True)
sys.stdout.flush()
os._exit(0)
"""
LAUNCH = """
import json, sys
from pathlib import Path
from torch.distributed import run
from torch.distributed.elastic.rendezvous import rendezvous_handler_registry
from paceline.engine.plan import Plan
from paceline.engine.training.launcher import BACKEND, PlannedRendezvous, torchrun_arguments
from paceline.engine.wire import from_plain
plan = from_plain(Plan, json.loads((Path(sys.argv[1]) / "plan.json").read_text()))
rendezvous_handler_registry.register(BACKEND, PlannedRendezvous)
run.main([*torchrun_arguments(plan, plan.nodes[int(sys.argv[2])], Path(sys.argv[1]))[:-1], "own_program"])
"""
SEED, RESAMPLES = 12, 10_000
LIMITS = (0.02, 0.02, 0.02)
"""Goals where a difference is beyond noise, as fractions, in the order of ``Costs``."""
Costs = tuple[float, float, float]
"""Seconds from the start to the first step, processor seconds of the launch, seconds of a step."""


def measure(pairs: int) -> list[Figure]:
    """All figures over this number of pairs."""
    rows: list[tuple[Costs, Costs]] = []
    with tempfile.TemporaryDirectory(prefix="doors-cost-") as name:
        place = Path(name)
        (place / "own_program.py").write_text(PROGRAM)
        for number in range(pairs):
            if number % 2:
                opened = _open(place / f"{number}")
                closed = _closed(place / f"{number}")
            else:
                closed = _closed(place / f"{number}")
                opened = _open(place / f"{number}")
            rows.append((closed, opened))
            print(f"      pair {number + 1}: closed {_text(closed)}, open {_text(opened)}", flush=True)
    header = ("start s", "processor s", "step s")
    write_csv("doors_cost", [f"{word} {which}" for which in ("closed", "open") for word in header], [(*a, *b) for a, b in rows])
    names = ("seconds to the first step", "processor seconds of a launch", "seconds of a step")
    return [_figure(name, [(a[i], b[i]) for a, b in rows], most) for i, (name, most) in enumerate(zip(names, LIMITS, strict=True))]


def _figure(name: str, pairs: list[tuple[float, float]], most: float) -> Figure:
    slower = [closed / opened - 1 for closed, opened in pairs]
    low, high = _interval(slower)
    usual = median(opened for _, opened in pairs)
    value = f"{median(slower) * 100:+.1f} % [{low * 100:+.1f}, {high * 100:+.1f}] of {usual:.3g} s"
    return Figure(f"{name}, closed doors against torchrun's own", "within noise", value, low <= 0 or median(slower) <= most)


def _text(costs: Costs) -> str:
    return f"{costs[0]:.1f} s, {costs[1]:.1f} s of processor, {costs[2] * 1e3:.2f} ms a step"


def _closed(place: Path) -> Costs:
    """As a run."""
    plan = make_plan("sp500-mlp", [[1.0], [1.0]], ["equal"], epochs=1, batch=8)
    runs = [place / node.name / "runs" / plan.run_id for node in plan.nodes]
    for run in runs:
        run.mkdir(parents=True)
        (run / "plan.json").write_text(dumps(plan))
    store = StoreService(runs, 2)
    store.start()
    try:
        return _time(place, [["-c", LAUNCH, str(run), str(node.node_rank)] for node, run in zip(plan.nodes, runs, strict=True)])
    finally:
        store.stop()


def _open(place: Path) -> Costs:
    """As torchrun does by itself."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    common = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "0"]
    common += ["--rdzv-backend", "c10d"]
    common += ["--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "x", "--local-addr", "127.0.0.1"]
    return _time(place, [[*common, "--rdzv-conf", f"is_host={int(node == 0)}", "-m", "own_program"] for node in (0, 1)])


def _time(place: Path, commands: list[list[str]]) -> Costs:
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join((str(place.parent), str(CHECKOUT)))
    began, before = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    processes = [
        subprocess.Popen([sys.executable, *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    outputs = [process.communicate() for process in processes]
    lines = [line for out, _ in outputs for line in out.splitlines() if line.startswith("{")]
    if not lines:
        raise RuntimeError("the program did not run: " + " ".join(error for _, error in outputs)[-2000:])
    facts = json.loads(lines[0])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return facts["first"] - began, processor, facts["step"]


def _interval(values: list[float]) -> tuple[float, float]:
    """95 % bootstrap interval of the median."""
    draw = random.Random(SEED)
    medians = sorted(median(draw.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES)]


def main() -> int:
    """Measure and print. Returns 1 where a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=8)
    return print_figures(measure(parser.parse_args().pairs))


if __name__ == "__main__":
    sys.exit(main())
