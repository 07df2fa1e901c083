"""Men in the middle, in every combination: ``python benchmarks/fleet/trust.py``. Servers, attacks and seeds are the tests' own."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from benchmarks.table import row  # noqa: E402
from tests.support.ssh.impostors import ATTACKS, Stage, cases, play  # noqa: E402

Row = tuple[str, str, str, bool]
SEEDS = range(3)


def measure() -> list[Row]:
    """One row for each attack: (what, goal, figure, holds). Refused means: no connection, and no login asked for by us."""
    os.environ.pop("SSH_AUTH_SOCK", None)
    home = os.environ.get("HOME")
    try:
        with tempfile.TemporaryDirectory() as place:
            tried, refused = asyncio.run(_attack(Path(place)))
    finally:
        if home is not None:
            os.environ["HOME"] = home
    return [
        (f"man in the middle: {attack}", "100 % refused", f"{refused[attack]} of {tried[attack]}", refused[attack] == tried[attack])
        for attack in ATTACKS
    ]


async def _attack(place: Path) -> tuple[Counter[str], Counter[str]]:
    tried: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    async with Stage(place).set() as stage:
        for seed in SEEDS:
            for case in cases():
                trouble = await play(stage, case, seed)
                tried[case.attack] += 1
                refused[case.attack] += not trouble
                if trouble:
                    print(f"the attacker {trouble}: seed {seed}, {case}", flush=True)
    return tried, refused


def main() -> int:
    """Print the table; status 1 where a goal was missed."""
    rows = measure()
    for what, goal, figure, holds in rows:
        row(what, goal, figure, holds)
    return 0 if all(holds for _, _, _, holds in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
