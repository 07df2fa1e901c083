"""The registry of benchmarks, and the runner that executes each in a process of its own and prints one table."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.balancer.proof import write_page
from benchmarks.places import CHECKOUT, RESULTS
from benchmarks.table import Figure, parse_figures, print_figures

GROUPS: dict[str, tuple[str, ...]] = {
    "balancer": ("gradients", "cost", "adaptation", "causes", "alerts", "simulation", "hindsight", "real"),
    "advice": ("profile", "labs", "emulated", "real", "cases", "netns", "contended"),
    "fleet": (
        "trust",
        "doors",
        "doors_cost",
        "scale",
        "files",
        "node",
        "tails",
        "hostile",
        "openssh",
        "first_contact",
        "slow_lines",
    ),
    "jobs": ("membership", "recovery", "schedules"),
    "clusters": ("manifests",),
    "data": ("stream", "loading"),
    "scripts": ("cost", "lab"),
    "workloads": ("learning",),
    "experiments": ("negative_scaling", "trainer_table"),
    "tui": ("agent", "store", "replay", "recording", "paint", "fleet", "many", "first_minutes"),
}
"""Benchmarks by group, in the order in which they run. In ``balancer`` those that need idle cores come first."""
USAGE = """usage: python -m benchmarks [GROUP | GROUP/NAME ...]

Runs benchmarks one after another, all of them by default, and ends with one table. Leave the machine idle meanwhile.
Exit status: 0, 1 where a goal was missed or a benchmark failed, 2 for an unknown name. One benchmark alone, with its own
options: python -m benchmarks.GROUP.NAME
"""


def select(words: Sequence[str]) -> list[str]:
    """The benchmarks, as ``GROUP/NAME``, that these words name; all of them for no word. Raises ValueError for an unknown word."""
    selected: list[str] = []
    for word in words or GROUPS:
        group, _, name = word.partition("/")
        known = GROUPS.get(group, ())
        if not known or (name and name not in known):
            raise ValueError(f"unknown benchmark {word!r}")
        selected += [f"{group}/{one}" for one in ((name,) if name else known)]
    return list(dict.fromkeys(selected))


def module_of(benchmark: str) -> str:
    """The module that is run: ``tui/store`` -> ``benchmarks.tui.store``."""
    return f"benchmarks.{benchmark.replace('/', '.')}"


def run_benchmark(benchmark: str) -> list[Figure]:
    """Run one benchmark, echo its lines and store them in benchmarks/results. A failed process adds a missed figure."""
    lines = []
    command = [sys.executable, "-m", module_of(benchmark)]
    with subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip())
    RESULTS.mkdir(exist_ok=True)
    _lines_file(benchmark).write_text("\n".join(lines) + "\n")
    figures = stored_figures(benchmark)
    if process.returncode != 0 and all(figure.is_met for figure in figures):  # a status of 1 may report a missed goal
        figures.append(Figure(f"{benchmark} ran to its end", "status 0", f"status {process.returncode}", False, benchmark))
    return figures


def stored_figures(benchmark: str) -> list[Figure]:
    """The figures of the newest run of a benchmark; none where it never ran."""
    path = _lines_file(benchmark)
    return parse_figures(path.read_text().splitlines() if path.exists() else (), benchmark)


def _lines_file(benchmark: str) -> Path:
    return RESULTS / f"{benchmark.replace('/', '_')}.txt"


def main(words: Sequence[str]) -> int:
    """Run the selected benchmarks. After those of the balancer, rewrites the tables of docs/design/balancer-proof.md."""
    if {"-h", "--help"} & set(words):
        print(USAGE, end="")
        return 0
    try:
        selected = select(words)
    except ValueError as error:
        print(f"{error}\n{USAGE}", end="", file=sys.stderr)
        return 2
    figures = [figure for benchmark in selected for figure in run_benchmark(benchmark)]
    print("\nall figures")
    status = print_figures(figures)
    if any(benchmark.startswith("balancer/") for benchmark in selected):
        write_page([figure for benchmark in select(["balancer"]) for figure in stored_figures(benchmark)])
    return status
