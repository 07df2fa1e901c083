"""Throughput and memory of mirroring a log over a real sshd: ``python -m benchmarks fleet/tails``.

One log of 1 GiB, once over an uninterrupted connection and once through four cuts. Leave the machine idle meanwhile: sshd, agent,
proxy and control centre share its cores.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.table import Figure, print_figures
from tests.integration.test_cuts import MEBI, bring_home, gigabyte_faults
from tests.support.ssh.fault_proxy import Fault

LOG_BYTES = 1 << 30


def measure() -> list[Figure]:
    """Throughput, checksum and memory of both transfers."""
    figures = []
    for name, faults in (("", iter(())), (" through 4 cuts", gigabyte_faults())):
        found = _once(faults)
        if not name:  # with cuts the time depends on how soon each is noticed
            rate = LOG_BYTES / found["seconds"] / 1e6
            figures.append(Figure("one log of 1 GiB over sshd: throughput", ">= 50 MB/s", f"{rate:.0f} MB/s", rate >= 50))
        figures.append(Figure(f"one log of 1 GiB over sshd{name}: sums", "equal", f"equal, {found['cuts']:.0f} cuts", True))
        memory = f"{found['agent'] // MEBI:.0f} MiB, {found['centre'] // MEBI:.0f} MiB"
        is_bounded = max(found["agent"], found["centre"]) < 128 * MEBI
        figures.append(Figure(f"memory{name}: agent at most; centre more than before", "< 128 MiB", memory, is_bounded))
    return figures


def _once(faults: Iterator[Fault | None]) -> dict[str, int | float]:
    with tempfile.TemporaryDirectory() as path:
        return asyncio.run(bring_home(Path(path), LOG_BYTES, faults))


def main() -> int:
    """Measure and print. Returns 1 where a goal was missed."""
    return print_figures(measure())


if __name__ == "__main__":
    sys.exit(main())
