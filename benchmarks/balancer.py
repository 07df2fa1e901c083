"""Everything the balancer claims, measured in turn: ``python benchmarks/balancer.py [BENCHMARK ...]`` (all by default).

Each is one command of its own whose lines are kept in benchmarks/results; docs/design/balancer-proof.md gathers the newest of all.
Leave the machine alone meanwhile: REAL rows are processes on its cores. Status 1 where a goal was missed or a benchmark broke.
"""

from __future__ import annotations

import csv
import os
import re
import sys
from datetime import date
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from benchmarks.balancer.claims import Figure, claims_table, rules_table  # noqa: E402
from benchmarks.runner import kept, measure  # noqa: E402
from benchmarks.table import RESULTS, row  # noqa: E402

BENCHMARKS = ("gradients", "cost", "adaptation", "causes", "alerts_sim", "balancer_sim")
"""Those that need the machine's cores first."""
PAGE = CHECKOUT / "docs" / "design" / "balancer-proof.md"
BLOCK = re.compile(r"(<!-- figures: .*? -->\n).*?(<!-- /figures -->)", re.DOTALL)


def write_page(figures: list[Figure]) -> None:
    """Put the tables between the marks of the page."""
    with (RESULTS / "balancer_rules.csv").open(newline="") as file:
        rules = rules_table(csv.DictReader(file))
    tables = f"{claims_table(figures)}\n\n{rules}\n\nMeasured {date.today()} on {os.cpu_count()} cores.\n"
    text, found = BLOCK.subn(lambda block: block[1] + tables + block[2], PAGE.read_text())
    if found != 1:
        raise SystemExit(f"{PAGE} has no place for figures")
    PAGE.write_text(text)


def main(wanted: list[str]) -> int:
    """Measure, and end with one table."""
    figures = [figure for benchmark in wanted or BENCHMARKS for figure in measure(benchmark)]
    print("\nall figures")
    for figure in figures:
        row(figure.what, figure.goal, figure.figure, figure.is_met)
    write_page([figure for benchmark in BENCHMARKS for figure in kept(benchmark)])
    return 0 if all(figure.is_met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
