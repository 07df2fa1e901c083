"""Moments of a replay as a person writes them: ``95``, ``95s``, ``1:35``, ``1:02:03``, ``end``. Pure."""

from __future__ import annotations

import math
import re

from ..errors import UsageError

MOMENT_EXAMPLES = "90, 90s, 5m, 1:30, 1:02:03 or end"
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_AMOUNT = re.compile(r"(\d+(?:\.\d*)?(?:e\d+)?)([smh]?)")
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,3}):(\d{2}(?:\.\d*)?)")


def parse_moment(text: str) -> float:
    """Seconds since the recording began; infinity for ``end``. Raises UsageError."""
    word = text.strip()
    if word == "end":
        return math.inf
    if match := _AMOUNT.fullmatch(word):
        return float(match[1]) * _UNITS[match[2]]
    if match := _CLOCK.fullmatch(word):
        return int(match[1] or 0) * 3600.0 + int(match[2]) * 60.0 + float(match[3])
    raise UsageError(f"not a moment of a recording: {text or 'nothing'}", hint=f"expected {MOMENT_EXAMPLES}")
