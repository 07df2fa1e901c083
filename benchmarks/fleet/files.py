"""Hostile lines, frames, file trees and nodes.toml files in full counts: ``python -m benchmarks fleet/files``.

Generators and seeds are those of the tests.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from benchmarks.table import Figure, print_figures
from tests.engine.inventory.test_hostile_nodes_file import read_many
from tests.engine.jobs.test_fetch import attack
from tests.engine.protocol.test_hostile_frames import send_malformed_lines
from tests.tui.terminal.test_hostile_text import show_lines

WRONG = ("tracebacks", "control characters", "broken lines", "too long", "writes outside", "without a place")
"""Counts that must be 0."""


def measure() -> list[Figure]:
    """One figure per kind of hostile input."""
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        counts_by_input = {
            "100,000 hostile lines": show_lines(100_000),
            "100,000 broken frames": asyncio.run(send_malformed_lines(100_000)),
            "10,000 hostile file trees": attack(10_000, home),
            "10,000 generated nodes.toml": read_many(10_000, home / "nodes.toml"),
        }
    figures = []
    for what, counts in counts_by_input.items():
        wrong = {name: counts[name] for name in WRONG if name in counts}
        figures.append(Figure(what, "0", ", ".join(f"{amount} {name}" for name, amount in wrong.items()), not any(wrong.values())))
    return figures


def main() -> int:
    """Measure and print. Returns 1 where a goal was missed."""
    return print_figures(measure())


if __name__ == "__main__":
    sys.exit(main())
