"""How fast a log comes home over a real sshd, and in how much memory: ``python benchmarks/fleet/tails.py``.

One log of 1 GiB, once through an open connection and once through four cuts. Leave the machine alone meanwhile: sshd, agent,
proxy and control centre share its cores.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from benchmarks.table import row  # noqa: E402
from tests.integration.test_cuts import MEBI, bring_home, gigabyte_faults  # noqa: E402
from tests.support.ssh.fault_proxy import Fault  # noqa: E402

SIZE = 1 << 30


def measure() -> list[tuple[str, str, str, bool]]:
    """(what, goal, figure, whether it holds)."""
    rows = []
    for name, faults in (("", iter(())), (" through 4 cuts", gigabyte_faults())):
        found = _once(faults)
        if not name:  # a cut costs what it takes to be noticed
            rate = SIZE / found["seconds"] / 1e6
            rows.append(("one log of 1 GiB over sshd: throughput", ">= 50 MB/s", f"{rate:.0f} MB/s", rate >= 50))
        rows.append((f"one log of 1 GiB over sshd{name}: sums", "equal", f"equal, {found['cuts']} cuts", True))
        memory = f"{found['agent'] >> 20} MiB, {found['centre'] >> 20} MiB"
        is_bounded = max(found["agent"], found["centre"]) < 128 * MEBI
        rows.append((f"memory{name}: agent at most; centre more than before", "< 128 MiB", memory, is_bounded))
    return rows


def _once(faults: Iterator[Fault | None]) -> dict[str, int | float]:
    with tempfile.TemporaryDirectory() as path:
        return asyncio.run(bring_home(Path(path), SIZE, faults))


def main() -> int:
    """Print the rows; 1 where one does not hold."""
    rows = measure()
    for what, goal, figure, holds in rows:
        row(what, goal, figure, holds)
    return 0 if all(holds for *_, holds in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
