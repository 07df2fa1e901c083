"""Running benchmarks one after another, each a command of its own, and reading their figures back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.balancer.claims import Figure
from benchmarks.table import RESULTS, ROW, row

CHECKOUT = Path(__file__).resolve().parent.parent


def measure(benchmark: str) -> list[Figure]:
    """Run one benchmark, show what it prints as it comes, and take its figures. That it broke is one, too."""
    command = [sys.executable, str(CHECKOUT / "benchmarks" / f"{benchmark}.py")]
    lines = []
    with subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip())
    (RESULTS / f"{benchmark}.txt").write_text("\n".join(lines) + "\n")
    figures = kept(benchmark)
    if process.returncode != 0:
        figures.append(Figure(benchmark, f"{benchmark} ran to its end", "status 0", f"status {process.returncode}", False))
    return figures


def kept(benchmark: str) -> list[Figure]:
    """The figures of its newest run; none where it never ran."""
    path = RESULTS / f"{benchmark}.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    found = [match for line in lines if (match := ROW.match(line))]
    return [Figure(benchmark, row["what"], row["goal"], row["figure"], row["verdict"] == "met") for row in found]


def in_turn(benchmarks: Sequence[str]) -> int:
    """Measure one after another and end with one table; 1 where a goal was missed or a benchmark broke."""
    figures = [figure for benchmark in benchmarks for figure in measure(benchmark)]
    print("\nall figures")
    for figure in figures:
        row(figure.what, figure.goal, figure.figure, figure.is_met)
    return 0 if all(figure.is_met for figure in figures) else 1
