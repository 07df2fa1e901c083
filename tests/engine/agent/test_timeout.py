"""A limit on one wait, as programs on nodes have it: no cancellation is lost, nothing goes on behind it."""

from __future__ import annotations

import asyncio

import pytest
from paceline.engine.agent.system.timeout import with_timeout


async def test_what_comes_in_time_is_given_and_what_fails_fails() -> None:
    assert await with_timeout(60.0, asyncio.sleep(0, "there")) == "there"
    with pytest.raises(ZeroDivisionError):
        await with_timeout(60.0, fails())


async def fails() -> None:
    raise ZeroDivisionError


async def test_what_does_not_come_in_time_is_ended() -> None:
    never = asyncio.get_running_loop().create_future()
    with pytest.raises(asyncio.TimeoutError):
        await with_timeout(0.0, never)
    assert never.cancelled()


async def test_a_cancellation_that_comes_with_the_result_is_not_swallowed() -> None:
    answer = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(with_timeout(60.0, answer))
    await asyncio.sleep(0)
    answer.set_result("there")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_who_is_cancelled_cancels_what_was_waited_for() -> None:
    never = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(with_timeout(60.0, never))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert never.cancelled()
