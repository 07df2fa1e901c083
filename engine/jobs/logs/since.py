"""The time that a person types to see newer lines only: ``10m``, ``2 h``, ``14:02``, ``2026-11-30 14:02``. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

SINCE_EXAMPLES = "10m, 2h, 14:02 or '2026-11-30 14:02'"
_AGO = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*(s|sec|seconds?|m|min|minutes?|h|hours?|d|days?)?")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_CLOCKS = ("%H:%M", "%H:%M:%S")
_DATES = ("%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d")


def parse_since(text: str, now: float) -> float:
    """Seconds since 1970. A time of day is the last one before ``now``, in the local zone; a bare number is seconds ago.

    Raises ValueError.
    """
    typed = text.strip()
    if ago := _AGO.fullmatch(typed.lower().removesuffix(" ago")):
        return now - float(ago[1]) * _SECONDS[(ago[2] or "s")[0]]
    local = datetime.fromtimestamp(now)
    for form in _CLOCKS:
        try:
            clock = datetime.strptime(typed, form)
        except ValueError:
            continue
        moment = local.replace(hour=clock.hour, minute=clock.minute, second=clock.second, microsecond=0)
        return (moment if moment <= local else moment - timedelta(days=1)).timestamp()
    for form in _DATES:
        try:
            return datetime.strptime(typed, form).timestamp()
        except (ValueError, OverflowError, OSError):
            continue
    raise ValueError(f"expected a time such as {SINCE_EXAMPLES}, got {text[:40]!r}")
