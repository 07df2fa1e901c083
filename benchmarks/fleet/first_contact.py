"""First contact with odd machines beside OpenSSH's client: ``python -m benchmarks fleet/first_contact [WORD ...]``.

Real sshd, real shells (bash, dash, zsh, fish, tcsh, ksh, mksh, busybox, yash, as far as they are installed), real start files. A
case is met twice, with and without an upload. WORD selects the cases with it in their names. Five minutes.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from unittest import mock

from benchmarks.table import Figure, print_figures
from tests.support.ssh.first_contacts import contacts, fault_of

MIN_CASES = 80


def measure(words: list[str]) -> list[Figure]:
    """How many cases are as ssh has them."""
    cases = [case for case in contacts() if not words or any(word in case.name for word in words)]
    faults = {}
    for case in cases:
        with tempfile.TemporaryDirectory(prefix="contact-") as place, mock.patch.dict(os.environ, {"HOME": place}):
            os.environ.pop("SSH_AUTH_SOCK", None)
            if fault := asyncio.run(fault_of(Path(place), case)):
                faults[case.name] = fault
                print(f"      {case.name}: {fault}", flush=True)
    kinds = Counter(case.name.split(":")[0] for case in cases)
    refused = sum(bool(case.told) for case in cases)
    right = len(cases) - len(faults)
    print(f"      {', '.join(f'{count} {kind}' for kind, count in kinds.items())}", flush=True)
    return [
        Figure("kinds of machine", f">= {MIN_CASES}", f"{len(cases)}", len(cases) >= MIN_CASES or bool(words)),
        Figure(
            f"connected as ssh connects ({len(cases) - refused}), or refused with its reason ({refused})",
            "all",
            f"{right} of {len(cases)}",
            right == len(cases),
        ),
    ]


def main() -> int:
    """Measure and print. Returns 1 where a goal was missed."""
    return print_figures(measure(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
