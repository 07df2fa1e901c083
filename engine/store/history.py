"""Bounded histories as frozen values: recent samples of a reading, and curves over a whole run. Pure."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")

MAX_RECENT_SAMPLES = 300
"""Samples kept of one reading: five minutes at one a second."""
MAX_RECORDED_READINGS = 4320
"""Readings kept that a node's runners recorded: twelve hours at one in ten seconds."""
MAX_CLOCK_SAMPLES = 60
"""Clock samples kept of one device: the baseline of the last minute."""
MAX_CURVE_POINTS = 512
"""Limit of points in a curve. A longer curve is thinned to every second point, so that it keeps its whole span."""
MAX_ENTRIES = 200
"""Limit of decisions, alerts and runs that are kept."""


def append_recent(history: tuple[T, ...], value: T, limit: int = MAX_RECENT_SAMPLES) -> tuple[T, ...]:
    """Append a value and drop the oldest beyond ``limit``. Concatenation copies the references once or twice, unpacking thrice."""
    if len(history) >= limit:
        history = history[1 - limit :]
    return history + (value,)  # noqa: RUF005


def append_to_curve(history: tuple[T, ...], point: T) -> tuple[T, ...]:
    """Append a point to a curve. Beyond ``MAX_CURVE_POINTS`` it is thinned evenly instead of cut."""
    points = (*history, point)
    return points if len(points) <= MAX_CURVE_POINTS else (*points[:-1:2], points[-1])
