"""A spare node: it rests until other devices of the run are missing, joins in their place, and rests again when all are back.

It takes part in the first steps, so that its device is measured like the others'. Its runner decides alone, from the generations
that it follows; no centre is needed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol

from ...errors import PacelineError

SPARE = "a spare, for when devices are missing"
SPARE_INTERVAL_S = 1.0
SHORT_S = 10.0
"""Seconds for which devices must be missing: a killed process is back by itself sooner."""


class SpareGroup(Protocol):
    """What a spare needs of its group."""

    rest_reason: str

    @property
    def is_member(self) -> bool:
        """Whether processes of this node take part."""

    @property
    def others(self) -> int:
        """Devices of other nodes that take part."""

    async def drain(self, reason: str) -> Any:
        """Leave the run for now. Raises PacelineError where it may not."""

    def come_back(self) -> Any:
        """Join again. Raises PacelineError."""


async def keep_spare(
    group: SpareGroup,
    wanted: int,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Any] = asyncio.sleep,
) -> None:
    """Rest and join for ever. ``wanted``: devices of the nodes that are no spares. Whom a person drains or brings back stays so."""
    is_ours, short_since = True, clock()
    while True:
        short_since = short_since if group.others < wanted else clock()
        try:
            if group.is_member and not group.rest_reason and is_ours and group.others >= wanted:
                await group.drain(SPARE)
            elif group.rest_reason == SPARE and not group.is_member:
                is_ours = clock() - short_since >= SHORT_S
                if is_ours:
                    group.come_back()
        except PacelineError:  # as while it is the last one; tried again
            pass
        await sleep(SPARE_INTERVAL_S)
