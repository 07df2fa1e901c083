"""Bounded histories as frozen values: the recent past of a reading, and a whole run in few points."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")

RECENT = 300
"""Samples of one reading that are kept: five minutes at one a second."""
KEPT = 4320
"""Readings kept by a node's runners that are remembered: a night at one in ten seconds."""
CLOCKS = 60
"""Clocks of a device that are kept: what was usual a moment ago."""
POINTS = 512
"""Points of a curve of a run; a curve that grows beyond is thinned to every second point, so that it keeps its whole span."""
EVENTS = 200
"""Decisions, alerts and runs that are kept."""


def recent(history: tuple[T, ...], value: T, limit: int = RECENT) -> tuple[T, ...]:
    """Append and forget the oldest. Adding copies ``limit`` references once or twice, unpacking would do it three times."""
    if len(history) >= limit:
        history = history[1 - limit :]
    return history + (value,)  # noqa: RUF005


def curve(history: tuple[T, ...], point: T) -> tuple[T, ...]:
    """Append to a curve whose whole span matters: at ``POINTS`` it is thinned evenly instead of cut."""
    grown = (*history, point)
    return grown if len(grown) <= POINTS else (*grown[:-1:2], grown[-1])
