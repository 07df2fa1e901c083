"""Bounds what one node may cost the centre: how many lines of a kind count in a second, and what is done about the rest. Pure."""

from __future__ import annotations

from dataclasses import dataclass

MAX_EVENT_BYTES = 512 << 10
"""A longer line that is no answer is dropped unread: a reading of 64 devices with 20 processes each has a quarter of that."""
MAX_DEVICES = 128
"""Devices of one reading; a reading of more is dropped."""
TURN_S = 0.01
"""Seconds for which lines of one node are handled before other tasks run."""
REST_FACTOR = 3.0
"""A node whose lines are dropped is read for at most one part in ``1 + REST_FACTOR`` of the time; the rest waits there."""
REPORT_INTERVAL_S = 10.0
"""Seconds between two reports of what was dropped."""


@dataclass
class Allowance:
    """A token bucket: so many a second, and as many at once as ``burst``. Time is given."""

    rate: float
    burst: float
    left: float = -1.0
    at: float = 0.0

    def take(self, now: float) -> bool:
        """Whether one more is allowed now."""
        if self.left < 0.0:
            self.left = self.burst
        else:
            self.left = min(self.burst, self.left + self.rate * max(0.0, now - self.at))
        self.at = now
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True


class FloodGate:
    """The allowances of one link, by kind of line, and the count of what was dropped."""

    def __init__(self, interval: float) -> None:
        """``interval``: seconds between readings."""
        self._allowances = {
            "reading": Allowance(max(5.0, 4.0 / max(interval, 1e-3)), 20.0),
            "warning": Allowance(1.0, 20.0),
            "other": Allowance(20.0, 100.0),
        }
        self.dropped = 0
        """Lines so far that were dropped."""
        self._dropped_at = -1e9
        self._told, self._told_at = 0, -1e9

    def admits(self, kind: str, now: float) -> bool:
        """Whether one more line of a kind (``reading``, ``warning`` or ``other``: unasked) counts; else it is dropped."""
        if self._allowances[kind].take(now):
            return True
        self.drop(now)
        return False

    def drop(self, now: float) -> None:
        """Note a line that was dropped."""
        self.dropped += 1
        self._dropped_at = now

    def rest(self, used: float, now: float) -> float:
        """Seconds to leave the node unread after ``used`` seconds of handling its lines."""
        return REST_FACTOR * used if now - self._dropped_at < 1.0 else 0.0

    def report_due(self, now: float) -> int:
        """Number of dropped lines to report now; 0: nothing new, or too early."""
        if self.dropped == self._told or now - self._told_at < REPORT_INTERVAL_S:
            return 0
        self._told, self._told_at = self.dropped, now
        return self.dropped
