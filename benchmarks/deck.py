"""Everything the flight deck claims, measured in turn: ``python benchmarks/deck.py [BENCHMARK ...]`` (all by default).

Many nodes are played by one server process of ours that emits real agent lines over SSH. The whole takes about half an hour; leave
the machine alone meanwhile. Status 1 where a goal was missed or a benchmark broke.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.measured import measure
from benchmarks.table import row

BENCHMARKS = ("deck_agent", "deck_store", "deck_replay", "deck_paint", "deck_fleet", "deck_many")


def main(wanted: list[str]) -> int:
    """Measure, and end with one table."""
    figures = [figure for benchmark in wanted or BENCHMARKS for figure in measure(benchmark)]
    print("\nall figures")
    for figure in figures:
        row(figure.what, figure.goal, figure.figure, figure.is_met)
    return 0 if all(figure.is_met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
