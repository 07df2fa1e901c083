"""First contact over slow lines: ``python -m benchmarks fleet/slow_lines``. Two minutes.

Real sshd, a proxy in user space, nothing sped up: 64 kbit/s to 1 Mbit/s each way, 600 ms there and back,
and a queue as long as a modem's.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from paceline.engine.ssh.bundle import bundle

from benchmarks.table import Figure, print_figures
from tests.support.ssh.first_contacts import Contact, machine, named_in_full
from tests.support.ssh.slow_line import KILOBITS_PER_SECOND, first_contact, slow_line


async def _meet(kilobits: int, place: Path) -> Figure:
    async with machine(place, Contact("a slow line")) as odd:
        spec = named_in_full(odd, place)
        async with slow_line(spec.port or 0, kilobits * 125.0, 0.3) as port:
            contact = await first_contact(replace(spec, port=port), place)
    left = [path.name for path in (place / "state" / "odd" / "bundles").iterdir() if path.name != bundle().name]
    what = f"{contact.seconds:.0f} s, {len(contact.fractions)} steps of progress, {len(left)} temporary files"
    met = contact.error is None and not contact.losses and len(contact.fractions) >= 3 and not left
    return Figure(f"first contact at {kilobits} kbit/s, 600 ms", "connected, progress shown, 0 files left", what, met)


def main() -> int:
    """Measure and print. Returns 1 where a goal was missed."""
    figures = []
    for kilobits in KILOBITS_PER_SECOND:
        with tempfile.TemporaryDirectory(prefix="slow-") as place:
            figures.append(asyncio.run(_meet(kilobits, Path(place))))
            print(f"      {kilobits} kbit/s: {figures[-1].value}", flush=True)
    return print_figures(figures)


if __name__ == "__main__":
    sys.exit(main())
