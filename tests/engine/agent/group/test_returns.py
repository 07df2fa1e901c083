"""Devices whose processes were lost: when each is started again, and when they may join."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from paceline.engine.agent.group.returns import COMPANY_S, RETURN_DELAYS_S, Returns
from paceline.engine.errors import WorkFailed


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def _next(returns: Returns) -> dict[str, Any] | None:
    """What is to be started now; None: nothing yet."""
    asking = asyncio.ensure_future(returns.next_start())
    for _ in range(3):
        await asyncio.sleep(0)
    if not asking.done():
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        return None
    return asking.result()


async def test_a_device_is_started_again_more_rarely_with_every_loss() -> None:
    clock = Clock()
    returns = Returns(clock)
    for delay in (*RETURN_DELAYS_S, RETURN_DELAYS_S[-1]):
        returns.lose(3)
        returns.lose(3)  # silent, killed, and then told by its torchrun
        assert returns.is_expected(3)
        clock.now += delay - 0.01
        assert await _next(returns) is None
        clock.now += 0.02
        assert await _next(returns) == {"rank": 3}
        assert await _next(returns) is None
    returns.start_now(3)
    assert await _next(returns) == {"rank": 3}


async def test_processes_of_a_node_join_together_unless_one_takes_too_long() -> None:
    clock = Clock()
    returns = Returns(clock)
    for device in (1, 2):
        returns.lose(device)
    clock.now += RETURN_DELAYS_S[0]
    assert [await _next(returns), await _next(returns)] == [{"rank": 1}, {"rank": 2}]
    joining = asyncio.ensure_future(returns.join(2))
    await asyncio.sleep(0)
    assert returns.ready() == ()
    clock.now += COMPANY_S
    assert returns.ready() == (2,)
    other = asyncio.ensure_future(returns.join(1))
    await asyncio.sleep(0)
    assert returns.ready() == (1, 2)
    assert returns.admit(1, {"generation": 7})
    assert returns.admit(2, {"generation": 7})
    assert await joining == await other == {"generation": 7}
    assert not returns.admit(2, {})
    assert not returns.is_expected(2)


async def test_nothing_is_started_while_a_node_rests_or_after_the_end() -> None:
    clock = Clock()
    returns = Returns(clock)
    returns.lose(0)
    joining = asyncio.ensure_future(returns.join(0))
    await asyncio.sleep(0)
    returns.lose(1)
    returns.rest()
    with pytest.raises(WorkFailed, match="goes on without this process"):
        await joining
    clock.now += 1000.0
    assert await _next(returns) is None
    with pytest.raises(WorkFailed, match="goes on without this process"):  # it was on its way
        await returns.join(1)
    returns.end()
    assert await _next(returns) == {"is_over": True}
