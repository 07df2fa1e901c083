"""A spare rests until devices are missing for a while, and again when all are back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from paceline.engine.agent.group.spare import SHORT_S, SPARE, keep_spare
from paceline.engine.errors import UsageError


class Group:
    """A spare in a run of three other devices, second by second; ``others`` is how many of them are there."""

    def __init__(self) -> None:
        self.now = 0.0
        self.others = 3
        self.is_member, self.rest_reason = True, ""
        self.told: list[tuple[float, str]] = []

    async def drain(self, reason: str) -> None:
        if not self.others:
            raise UsageError("the last node")
        self.told.append((self.now, "rests"))
        self.is_member, self.rest_reason = False, reason

    def come_back(self) -> None:
        self.told.append((self.now, "comes"))
        self.is_member, self.rest_reason = True, ""

    async def live(self, seconds: float, **events: int | Callable[[], object]) -> None:
        """So many seconds; ``events``: what happens at one, such as ``at5=2``: 2 devices of the others are there from then on."""
        end, changes = self.now + seconds, {self.now + float(name[2:]): change for name, change in events.items()}

        async def sleep(step: float) -> None:
            self.now += step
            change = changes.pop(self.now, self.others)
            if isinstance(change, int):
                self.others = change
            else:
                change()
                await asyncio.sleep(0)
            if self.now >= end:
                raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await keep_spare(self, 3, clock=lambda: self.now, sleep=sleep)


async def test_a_spare_rests_joins_for_a_lost_node_and_rests_again() -> None:
    group = Group()
    await group.live(60, at5=2, at40=3)
    assert group.told == [(0.0, "rests"), (4.0 + SHORT_S, "comes"), (40.0, "rests")]
    assert group.rest_reason == SPARE


async def test_a_process_that_is_back_at_once_calls_nobody() -> None:
    group = Group()
    await group.live(40, at5=2, at12=3, at20=1, at28=3)
    assert group.told == [(0.0, "rests")]


async def test_what_a_person_does_with_a_spare_stays() -> None:
    group = Group()
    await group.live(60, at5=lambda: group.come_back(), at40=lambda: asyncio.ensure_future(group.drain("drained by a person")))
    assert group.told == [(0.0, "rests"), (5.0, "comes"), (40.0, "rests")]
    group.others = 1
    await group.live(60)
    assert group.rest_reason == "drained by a person"
