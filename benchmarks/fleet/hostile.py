"""Two good nodes beside one bad node, in more than 40 ways: ``python -m benchmarks fleet/hostile [KIND ...]``.

Each kind is played by a real control centre with four sessions: status, jobs, logs, cancel. Nodes, agents and directories are those
of the tests.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from benchmarks.table import Figure, print_figures
from tests.support.ssh.hostile_agent import KINDS
from tests.support.ssh.hostile_nodes import ODD_DIRECTORIES, HostileLab, play

EXTRA_S, STALL_S = 5.0, 0.2
"""Goals: seconds above the usual, and how late a key may be handled."""


def measure(kinds: list[str]) -> list[Figure]:
    """One figure for all kinds each: right answers, seconds above the usual, longest stall."""
    usual, stall, wrong = _play([])
    print(f"usual: {_text(usual)}, stall {stall * 1000:.0f} ms", flush=True)
    right, slowest, longest = 0, 0.0, 0.0
    for kind in kinds:
        seconds, stall, wrong = _play([kind])
        extra = max(seconds[verb] - usual[verb] for verb in usual)
        print(f"{kind}: {_text(seconds)}, +{extra:.2f} s, stall {stall * 1000:.0f} ms {' '.join(wrong)}", flush=True)
        right += not wrong
        slowest, longest = max(slowest, extra), max(longest, stall)
    return [
        Figure(f"good nodes beside a bad one, {len(kinds)} kinds", "all right", f"{right} of {len(kinds)}", right == len(kinds)),
        Figure("their status, jobs, logs, cancel", f"<= {EXTRA_S:g} s above the usual", f"{slowest:.2f} s", slowest <= EXTRA_S),
        Figure("keys meanwhile", f"<= {STALL_S * 1000:.0f} ms", f"{longest * 1000:.0f} ms", longest <= STALL_S),
    ]


def _play(kinds: list[str]) -> tuple[dict[str, float], float, list[str]]:
    with tempfile.TemporaryDirectory() as directory:
        return asyncio.run(play(HostileLab(Path(directory), kinds)))


def _text(seconds: dict[str, float]) -> str:
    return " ".join(f"{verb} {value:.2f} s" for verb, value in seconds.items())


def main() -> int:
    """Measure and print. Returns 1 where a goal was missed."""
    return print_figures(measure(sys.argv[1:] or [*ODD_DIRECTORIES, *KINDS]))


if __name__ == "__main__":
    sys.exit(main())
