"""Everything the balancer claims, measured in turn: ``python benchmarks/balancer.py [BENCHMARK ...]`` (all by default).

Each is one command of its own; their lines are gathered into one table and, when all ran, into docs/design/balancer-proof.md.
Leave the machine alone meanwhile: REAL rows are processes on its cores. Status 1 where a goal was missed or a benchmark broke.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from benchmarks.table import ROW, row  # noqa: E402

BENCHMARKS = ("balancer_sim", "gradients", "alerts_sim", "adaptation", "cost", "causes")
"""Simulated ones and plain mathematics first: they are quick."""
PAGE = CHECKOUT / "docs" / "design" / "balancer-proof.md"
BLOCK = re.compile(r"(<!-- figures: .*? -->\n).*?(<!-- /figures -->)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a benchmark."""

    benchmark: str
    what: str
    goal: str
    figure: str
    is_met: bool


def measure(benchmark: str) -> list[Figure]:
    """Run one benchmark, show what it prints as it comes, and take its figures; its end is one too when it broke."""
    command = [sys.executable, str(CHECKOUT / "benchmarks" / f"{benchmark}.py")]
    figures = []
    with subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            if found := ROW.match(line.rstrip()):
                figures.append(Figure(benchmark, found["what"], found["goal"], found["figure"], found["verdict"] == "met"))
    if process.returncode not in (0, 1) or not figures:
        figures.append(Figure(benchmark, "the benchmark ran to its end", "yes", f"status {process.returncode}", False))
    return figures


def as_markdown(figures: list[Figure]) -> str:
    """The table of the page, and on how much of a machine it was measured."""
    lines = ["| goal | | figure | | command |", "|---|---|---|---|---|"]
    for one in figures:
        verdict = "met" if one.is_met else "**missed**"
        cells = (one.what, one.goal, one.figure, verdict, f"`benchmarks/{one.benchmark}.py`")
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join([*lines, "", f"Measured {date.today()} on {os.cpu_count()} cores."])


def write_page(figures: list[Figure]) -> None:
    """Put the figures between the marks of the page."""
    text, found = BLOCK.subn(lambda block: f"{block[1]}{as_markdown(figures)}\n{block[2]}", PAGE.read_text())
    if found != 1:
        raise SystemExit(f"{PAGE} has no place for figures")
    PAGE.write_text(text)


def main(wanted: list[str]) -> int:
    """Measure, and end with one table."""
    figures = [figure for benchmark in wanted or BENCHMARKS for figure in measure(benchmark)]
    print("\nall figures")
    for figure in figures:
        row(figure.what, figure.goal, figure.figure, figure.is_met)
    if not wanted:
        write_page(figures)
    return 0 if all(figure.is_met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
