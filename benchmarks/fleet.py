"""Everything the fleet claims, measured in turn: ``python benchmarks/fleet.py [BENCHMARK ...]`` (all by default).

Many nodes are played by one server process of ours that emits real agent lines. The counts of faults, kills, cuts and cancels come
from ``make soak``, which takes longer. Leave the machine alone meanwhile. Status 1 where a goal was missed or a benchmark broke.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.runner import in_turn

BENCHMARKS = ("fleet_trust", "fleet_scale", "fleet_files", "fleet_node", "fleet_tails")

if __name__ == "__main__":
    sys.exit(in_turn(sys.argv[1:] or BENCHMARKS))
