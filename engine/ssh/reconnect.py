"""Finding a machine again that was lost: fresh attempts beside those that hear nothing, and the first that is through wins.

A lost SYN is repeated by the kernel after 1, 3 and 7 seconds only, so a link that is back would have to wait for it. Every attempt
is a login from its first byte on: nothing here knocks and goes away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Generic, TypeVar

from ..errors import NodeRefused, PacelineError

T = TypeVar("T")
BESIDE = 3
"""Silent attempts at one machine at one time; then the oldest gives way."""
LEAST = 1.0
"""Seconds between two attempts, whatever the reason to hurry."""


class Reconnect(Generic[T]):
    """The attempts at one machine, each its own task."""

    def __init__(self, attempt: Callable[[Callable[[], None]], Coroutine[Any, Any, T]]) -> None:
        """``attempt(heard)`` is one attempt. It calls ``heard`` when the other side speaks, and does not succeed before."""
        self._attempt = attempt
        self._going: list[asyncio.Task[T]] = []
        self._silent: list[asyncio.Task[T]] = []
        self._changed = asyncio.Event()
        self._begun = self._due = 0.0

    def retry_now(self, after: float) -> None:
        """There is reason to believe that the machine is back: begin the next attempt in ``after`` seconds, if not sooner."""
        soon = asyncio.get_running_loop().time() + after
        self._due = min(self._due, max(soon, self._begun + LEAST))
        self._changed.set()

    async def find(self, pace: Callable[[], float], failed: Callable[[PacelineError], None]) -> T:
        """Begin an attempt every ``pace()`` seconds while nobody answers; what the first one brings that is through.

        ``failed`` hears of attempts that ended without a word from the other side. Raises what an answered attempt raised.
        """
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._begun = loop.time()
                self._due = self._begun + pace()
                self._begin()
                while (left := self._due - loop.time()) > 0.0 or self._is_answered():
                    with suppress(TimeoutError):
                        async with asyncio.timeout(None if self._is_answered() else left):
                            await self._changed.wait()
                    self._changed.clear()
                    for attempt in [attempt for attempt in self._going if attempt.done()]:
                        if self._is_through(attempt, failed):
                            return attempt.result()
        finally:
            await self._end()

    def _begin(self) -> None:
        attempt: asyncio.Task[T] = asyncio.create_task(self._attempt(lambda: self._heard(attempt)))
        attempt.add_done_callback(lambda _: self._changed.set())
        self._going.append(attempt)
        self._silent.append(attempt)
        if len(self._silent) > BESIDE:
            self._silent.pop(0).cancel()

    def _heard(self, attempt: asyncio.Task[T]) -> None:
        """One is answered: the others need not go on, and nobody logs in twice."""
        if attempt in self._silent:
            self._silent.remove(attempt)
            while self._silent:
                self._silent.pop().cancel()
            self._changed.set()

    def _is_answered(self) -> bool:
        """Whether an attempt is under way whose end is worth waiting for."""
        return any(not (attempt.done() or attempt.cancelling() or attempt in self._silent) for attempt in self._going)

    def _is_through(self, attempt: asyncio.Task[T], failed: Callable[[PacelineError], None]) -> bool:
        """Whether an attempt that has ended was the one. Raises what it raised after an answer."""
        self._going.remove(attempt)
        if attempt.cancelled():
            return False
        error = attempt.exception()
        if error is None:
            return True
        if attempt not in self._silent or not isinstance(error, PacelineError) or isinstance(error, NodeRefused):
            raise error
        self._silent.remove(attempt)
        failed(error)
        return False

    async def _end(self) -> None:
        """Give up what is under way; returns when nothing of it is left."""
        for attempt in self._going:
            attempt.cancel()
        await asyncio.gather(*self._going, return_exceptions=True)
        self._going.clear()
        self._silent.clear()
