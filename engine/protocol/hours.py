"""The hours of a day in which a node takes part in runs: ``20:00-07:00`` by its own clock, across midnight too. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

DAY_S = 86400
HOURS_EXAMPLE = "20:00-07:00"
_FORM = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Hours:
    """From one moment of a day to another, seconds since midnight."""

    start: int
    end: int
    text: str

    @property
    def span(self) -> int:
        """Its length, seconds."""
        return (self.end - self.start) % DAY_S

    def seconds_left(self, second: float) -> float:
        """Seconds until its end, at a second of the day; 0 outside of it."""
        passed = (second - self.start) % DAY_S
        return max(0.0, self.span - passed)


def parse_hours(text: str) -> Hours | None:
    """The hours of a text; None where it names none. The whole day and no hour at all are none either."""
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    start, end = (int(match[i]) * 3600 + int(match[i + 1]) * 60 for i in (1, 3))
    return Hours(start, end, text) if start != end else None
