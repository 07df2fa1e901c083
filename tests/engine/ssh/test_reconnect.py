"""Finding a lost machine again: fresh attempts beside silent ones, the first that is through wins, and nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from paceline.engine.errors import NodeRefused, NodeUnreachable, PacelineError
from paceline.engine.ssh.reconnect import BESIDE, Reconnect


class Attempts:
    """Attempts whose course the test decides."""

    def __init__(self) -> None:
        self.ends: list[asyncio.Future[str]] = []
        self.heard: list[Callable[[], None]] = []
        self.failures: list[str] = []
        self.search = Reconnect(self._attempt)
        self._more = asyncio.Event()

    async def _attempt(self, heard: Callable[[], None]) -> str:
        self.ends.append(asyncio.get_running_loop().create_future())
        self.heard.append(heard)
        self._more.set()
        return await self.ends[-1]

    def begin(self, pace: float) -> asyncio.Future[str]:
        def failed(error: PacelineError) -> None:
            self.failures.append(error.reason)

        return asyncio.ensure_future(self.search.find(lambda: pace, failed))

    async def until(self, count: int) -> None:
        while len(self.ends) < count:
            self._more.clear()
            await self._more.wait()


@pytest.fixture
async def attempts() -> Attempts:
    return Attempts()


async def test_a_fresh_attempt_finds_what_a_silent_one_misses(attempts: Attempts) -> None:
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
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert len(attempts.ends) == count
    attempts.ends[0].set_result("first")
    assert await finding == "first"


async def test_silent_attempts_are_few_and_the_oldest_gives_way(attempts: Attempts) -> None:
    finding = attempts.begin(pace=0.001)
    await attempts.until(BESIDE + 3)
    await asyncio.sleep(0)
    assert sum(not end.done() for end in attempts.ends) <= BESIDE
    assert attempts.ends[0].cancelled()
    finding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await finding
    assert all(end.done() for end in attempts.ends)


async def test_a_failure_without_a_word_is_told_and_the_search_goes_on(attempts: Attempts) -> None:
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


async def test_when_one_is_answered_the_others_are_given_up(attempts: Attempts) -> None:
    finding = attempts.begin(pace=0.001)
    await attempts.until(2)
    attempts.heard[1]()
    attempts.heard[0]()  # too late
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [end.cancelled() for end in attempts.ends] == [True, False]
    attempts.ends[1].set_result("second")
    assert await finding == "second"


async def test_good_news_make_the_next_attempt_come_soon(attempts: Attempts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paceline.engine.ssh.reconnect.LEAST", 0.0)
    finding = attempts.begin(pace=3600.0)
    await attempts.until(1)
    attempts.search.retry_now(0.0)
    await attempts.until(2)
    attempts.ends[1].set_result("found")
    assert await finding == "found"
