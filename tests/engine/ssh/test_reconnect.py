"""Finding a lost machine again: fresh attempts beside silent ones, the first that is through wins, and nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from paceline.engine.errors import NodeRefused, NodeUnreachable, PacelineError
from paceline.engine.ssh.reconnect import MAX_SILENT_ATTEMPTS, Reconnect

from tests.support.waiting import loop_turns, until


class Attempts:
    """Attempts whose course the test decides."""

    def __init__(self) -> None:
        self.ends: list[asyncio.Future[str]] = []
        self.heard: list[Callable[[], None]] = []
        self.failures: list[str] = []
        self.search = Reconnect(self._attempt)

    async def _attempt(self, heard: Callable[[], None]) -> str:
        self.ends.append(asyncio.get_running_loop().create_future())
        self.heard.append(heard)
        return await self.ends[-1]

    def begin(self, pace: float) -> asyncio.Future[str]:
        def failed(error: PacelineError) -> None:
            self.failures.append(error.reason)

        return asyncio.ensure_future(self.search.find(lambda: pace, failed))

    async def until(self, count: int) -> None:
        await until(lambda: len(self.ends) >= count, loop_turns)


@pytest.fixture
async def attempts() -> Attempts:
    return Attempts()


async def test_a_new_attempt_succeeds_while_an_older_one_is_silent(attempts: Attempts) -> None:
    finding = attempts.begin(pace=0.001)
    await attempts.until(2)
    attempts.ends[1].set_result("second")
    assert await finding == "second"
    assert all(end.cancelled() or end.result() == "second" for end in attempts.ends)


async def test_no_fresh_attempt_is_made_while_one_is_answered(attempts: Attempts) -> None:
    finding = attempts.begin(pace=0.001)
    await attempts.until(1)
    for heard in attempts.heard:
        heard()
    count = len(attempts.ends)
    await until(lambda: asyncio.get_running_loop().time() > attempts.search._next_at + 0.02)
    assert len(attempts.ends) == count
    attempts.ends[0].set_result("first")
    assert await finding == "first"


async def test_silent_attempts_are_limited_and_the_oldest_is_cancelled(attempts: Attempts) -> None:
    finding = attempts.begin(pace=0.001)
    await attempts.until(MAX_SILENT_ATTEMPTS + 3)
    await loop_turns()
    assert sum(not end.done() for end in attempts.ends) <= MAX_SILENT_ATTEMPTS
    assert attempts.ends[0].cancelled()
    finding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await finding
    assert all(end.done() for end in attempts.ends)


async def test_a_failure_without_an_answer_is_reported_and_attempts_continue(attempts: Attempts) -> None:
    finding = attempts.begin(pace=0.001)
    await attempts.until(1)
    attempts.ends[0].set_exception(NodeUnreachable("connection refused"))
    await attempts.until(2)
    attempts.ends[-1].set_result("found")
    assert await finding == "found"
    assert attempts.failures[:1] == ["connection refused"]


@pytest.mark.parametrize("error", [NodeUnreachable("the agent did not start"), NodeRefused("another key")])
async def test_a_failure_after_an_answer_ends_the_search(attempts: Attempts, error: PacelineError) -> None:
    finding = attempts.begin(pace=3600.0)
    await attempts.until(1)
    attempts.heard[0]()
    attempts.ends[0].set_exception(error)
    with pytest.raises(type(error), match=error.reason):
        await finding


async def test_an_answered_attempt_cancels_the_silent_ones(attempts: Attempts) -> None:
    finding = attempts.begin(pace=0.001)
    await attempts.until(2)
    attempts.heard[1]()
    attempts.heard[0]()  # too late
    await loop_turns(2)
    assert [end.cancelled() for end in attempts.ends] == [True, False]
    attempts.ends[1].set_result("second")
    assert await finding == "second"


async def test_retry_now_starts_the_next_attempt_soon(attempts: Attempts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paceline.engine.ssh.reconnect.MIN_ATTEMPT_INTERVAL", 0.0)
    finding = attempts.begin(pace=3600.0)
    await attempts.until(1)
    attempts.search.retry_now(0.0)
    await attempts.until(2)
    attempts.ends[1].set_result("found")
    assert await finding == "found"
