"""Everything profile and advise claim, measured in turn: ``python benchmarks/advice.py [BENCHMARK ...]`` (all by default).

Emulated, real and over real rate limits, as each says itself; predictions are kept before anything is measured. The whole takes
about half an hour; leave the machine alone meanwhile. Status 1 where a goal was missed or a benchmark broke.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.runner import in_turn

BENCHMARKS = ("advice_profile", "advice_emulated", "advice_real", "advice_cases", "advice_netns")

if __name__ == "__main__":
    sys.exit(in_turn(sys.argv[1:] or BENCHMARKS))
