"""Whatever nodes say and offer, in full counts: ``python benchmarks/fleet/files.py``. Functions and seeds are the tests' own."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from benchmarks.table import row  # noqa: E402
from tests.engine.inventory.test_hostile_nodes_file import read_many  # noqa: E402
from tests.engine.jobs.test_fetch import attack  # noqa: E402
from tests.engine.protocol.test_hostile_frames import hear_lines  # noqa: E402
from tests.tui.terminal.test_hostile_text import show_lines  # noqa: E402

Row = tuple[str, str, str, bool]
GOAL = "0"
WRONG = ("tracebacks", "control characters", "broken lines", "too long", "writes outside", "without a place")
"""Counts that have to be 0."""


def measure() -> list[Row]:
    """One row for each kind of trouble: (what, goal, figure, holds)."""
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        found = {
            "100,000 hostile lines": show_lines(100_000),
            "100,000 broken frames": asyncio.run(hear_lines(100_000)),
            "10,000 hostile file trees": attack(10_000, home),
            "10,000 generated nodes.toml": read_many(10_000, home / "nodes.toml"),
        }
    rows = []
    for what, counts in found.items():
        wrong = {name: counts[name] for name in WRONG if name in counts}
        figure = ", ".join(f"{amount} {name}" for name, amount in wrong.items())
        rows.append((what, GOAL, figure, not any(wrong.values())))
    return rows


def main() -> int:
    """Print the table; status 1 where a goal was missed."""
    rows = measure()
    for what, goal, figure, holds in rows:
        row(what, goal, figure, holds)
    return 0 if all(holds for _, _, _, holds in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
