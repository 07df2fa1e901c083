"""One figure of the page about a card, with its verdict; a part prints rows as JSON lines, ``benchmarks/gpu.py`` collects them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass

MARK = "row "
"""Begins a line that holds a row; everything else that a part prints is its log."""
GOOD, LOOK, FAILED, UNMEASURED, NOTE = "good", "look", "failed", "not measured", "note"
"""``look``: outside of what was expected, which may be the card's or ours; ``note``: a figure without an expectation."""


@dataclass(frozen=True)
class Row:
    """A figure; ``expected`` says what makes it good."""

    part: str
    figure: str
    value: str
    expected: str
    verdict: str


class Part:
    """Prints the rows of one part as they are measured, so that what follows cannot lose them."""

    def __init__(self, name: str) -> None:
        self.name = name

    def row(self, figure: str, value: str, expected: str = "", is_good: bool | None = None) -> None:
        """Print a figure; ``is_good`` None: a note."""
        verdict = NOTE if is_good is None else GOOD if is_good else LOOK
        self._print(Row(self.name, figure, value, expected, verdict))

    def near(self, figure: str, value: float, other: float, tolerance: float, unit: str = "", source: str = "") -> None:
        """Print a figure beside another source's, good within a relative tolerance."""
        is_good = abs(value - other) <= tolerance * abs(other)
        self.row(figure, f"{value:.4g} {unit}".strip(), f"{other:.4g} {source} ± {tolerance:.0%}".replace("  ", " "), is_good)

    def unmeasured(self, figure: str, reason: str) -> None:
        """Print that a figure could not be measured, and why."""
        self._print(Row(self.name, figure, reason, "", UNMEASURED))

    def _print(self, row: Row) -> None:
        sys.stdout.write(MARK + json.dumps(asdict(row)) + "\n")
        sys.stdout.flush()


def run_part(name: str, measure: Callable[[Part, str], None]) -> None:
    """Run one part on the device that the command line names, ``cuda`` or ``cpu``."""
    measure(Part(name), sys.argv[1] if len(sys.argv) > 1 else "cuda")
