"""Who else knows whether a run is alive: of runs that a scheduler keeps, the processes of this machine say nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Judge = Callable[[Path], "bool | None"]
"""Whether the run of a directory may still write there; None: not known here."""
_judges: list[Judge] = []


def add_judge(judge: Judge) -> None:
    """Ask this one, too, before the processes of this machine."""
    if judge not in _judges:
        _judges.append(judge)


def judged_alive(run: Path) -> bool | None:
    """The word of the first judge that knows the run; None: nobody does."""
    return next((word for judge in _judges if (word := judge(run)) is not None), None)
