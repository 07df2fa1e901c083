"""A timeout that loses no cancellation and leaves no task running."""

from __future__ import annotations

import asyncio

import pytest
from paceline.engine.agent.system.timeout import with_timeout

from tests.support.waiting import loop_turns


async def test_a_result_in_time_is_returned_and_an_error_is_raised() -> None:
    assert await with_timeout(60.0, asyncio.sleep(0, "there")) == "there"
    with pytest.raises(ZeroDivisionError):
        await with_timeout(60.0, fails())


async def fails() -> None:
    raise ZeroDivisionError


async def test_work_that_is_late_is_cancelled() -> None:
    never = asyncio.get_running_loop().create_future()
    with pytest.raises(asyncio.TimeoutError):
        await with_timeout(0.0, never)
    assert never.cancelled()


async def test_a_cancellation_at_the_moment_of_the_result_is_not_swallowed() -> None:
    answer = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(with_timeout(60.0, answer))
    await loop_turns()
    answer.set_result("there")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_cancelling_the_wait_cancels_the_work() -> None:
    never = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(with_timeout(60.0, never))
    await loop_turns()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert never.cancelled()
