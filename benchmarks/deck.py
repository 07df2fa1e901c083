"""Everything the flight deck claims, measured in turn: ``python benchmarks/deck.py [BENCHMARK ...]`` (all by default).

Many nodes are played by one server process of ours that emits real agent lines over SSH. The whole takes about half an hour; leave
the machine alone meanwhile. Status 1 where a goal was missed or a benchmark broke.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.runner import in_turn

BENCHMARKS = ("deck_agent", "deck_store", "deck_replay", "deck_paint", "deck_fleet", "deck_many")

if __name__ == "__main__":
    sys.exit(in_turn(sys.argv[1:] or BENCHMARKS))
