"""Man-in-the-middle attacks in every combination: ``python -m benchmarks fleet/trust``.

Servers, attacks and seeds are those of the tests.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.table import Figure, print_figures
from tests.support.ssh.impostors import ATTACKS, Stage, cases, play

SEEDS = range(3)


def measure() -> list[Figure]:
    """One figure per attack. Refused: no connection, and no login attempted."""
    os.environ.pop("SSH_AUTH_SOCK", None)
    home = os.environ.get("HOME")
    try:
        with tempfile.TemporaryDirectory() as directory:
            tried, refused = asyncio.run(_attack(Path(directory)))
    finally:
        if home is not None:
            os.environ["HOME"] = home
    return [
        Figure(
            f"man in the middle: {attack}",
            "100 % refused",
            f"{refused[attack]} of {tried[attack]}",
            refused[attack] == tried[attack],
        )
        for attack in ATTACKS
    ]


async def _attack(directory: Path) -> tuple[Counter[str], Counter[str]]:
    tried: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    async with Stage(directory).set() as stage:
        for seed in SEEDS:
            for case in cases():
                breach = await play(stage, case, seed)
                tried[case.attack] += 1
                refused[case.attack] += not breach
                if breach:
                    print(f"the attacker {breach}: seed {seed}, {case}", flush=True)
    return tried, refused


def main() -> int:
    """Measure and print. Returns 1 where a goal was missed."""
    return print_figures(measure())


if __name__ == "__main__":
    sys.exit(main())
