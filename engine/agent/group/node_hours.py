"""A node with hours: it leaves its run before they end and joins again when they begin, by its own clock and without a centre."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol

from ...errors import PacelineError
from ...protocol.hours import Hours

HOURS_INTERVAL_S = 5.0
CLOSING_LEAD_S = 90.0
"""Seconds before the end at which a node leaves: the processes of all nodes come to a common step first."""


class Leaving(Protocol):
    """What a node with hours needs of its group."""

    rest_reason: str

    @property
    def is_member(self) -> bool:
        """Whether processes of this node take part."""

    async def drain(self, reason: str) -> Any:
        """Leave the run for now. Raises PacelineError where it may not, as the last node."""

    def come_back(self) -> Any:
        """Join again. Raises PacelineError."""


def end_reason(hours: Hours) -> str:
    """Why a node rests outside of its hours."""
    return f"its hours are {hours.text}"


async def keep_hours(
    group: Leaving,
    hours: Hours,
    clock: Callable[[], time.struct_time] = time.localtime,
    sleep: Callable[[float], Any] = asyncio.sleep,
) -> None:
    """Leave and join for ever. What is refused, as the last node may not leave, is tried again later."""
    lead = min(CLOSING_LEAD_S, hours.span / 2)
    while True:
        now = clock()
        is_open = hours.seconds_left(now.tm_hour * 3600 + now.tm_min * 60 + now.tm_sec) > lead
        try:
            if not is_open and group.is_member and not group.rest_reason:
                await group.drain(end_reason(hours))
            elif is_open and group.rest_reason == end_reason(hours):  # a person's wish is left alone
                group.come_back()
        except PacelineError:
            pass
        await sleep(HOURS_INTERVAL_S)
