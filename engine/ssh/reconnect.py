"""Reconnecting to a lost machine: new attempts start beside silent ones, and the first to succeed wins.

The kernel repeats a lost SYN after 1, 3 and 7 seconds only, so a single attempt notices late that the network is back. Every
attempt is a full login; there is no separate probe of the port.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Generic, TypeVar

from ..errors import NodeRefused, PacelineError

T = TypeVar("T")
MAX_SILENT_ATTEMPTS = 3
"""Concurrent attempts at one machine without an answer. One more cancels the oldest."""
MIN_ATTEMPT_INTERVAL = 1.0
"""Seconds between the starts of two attempts, at least."""


class Reconnect(Generic[T]):
    """The attempts to reach one machine, one task each."""

    def __init__(self, attempt: Callable[[Callable[[], None]], Coroutine[Any, Any, T]]) -> None:
        """``attempt(on_contact)`` makes one attempt. It calls ``on_contact`` when the machine answers, so before it succeeds."""
        self._attempt = attempt
        self._attempts: list[asyncio.Task[T]] = []
        self._silent: list[asyncio.Task[T]] = []
        self._changed = asyncio.Event()
        self._started_at = self._next_at = 0.0

    def retry_now(self, after: float) -> None:
        """Start the next attempt in ``after`` seconds at the latest, because the machine is probably back."""
        latest = asyncio.get_running_loop().time() + after
        self._next_at = min(self._next_at, max(latest, self._started_at + MIN_ATTEMPT_INTERVAL))
        self._changed.set()

    async def find(self, interval: Callable[[], float], on_failure: Callable[[PacelineError], None]) -> T:
        """Start an attempt every ``interval()`` seconds while none is answered, and return the result of the first to succeed.

        ``on_failure`` is called for an attempt that failed without an answer. Raises what an answered attempt raised.
        """
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._started_at = loop.time()
                self._next_at = self._started_at + interval()
                self._start_attempt()
                while (left := self._next_at - loop.time()) > 0.0 or self._is_answered():
                    with suppress(TimeoutError):
                        async with asyncio.timeout(None if self._is_answered() else left):
                            await self._changed.wait()
                    self._changed.clear()
                    for attempt in [attempt for attempt in self._attempts if attempt.done()]:
                        if self._is_successful(attempt, on_failure):
                            return attempt.result()
        finally:
            await self._cancel_all()

    def _start_attempt(self) -> None:
        attempt: asyncio.Task[T] = asyncio.create_task(self._attempt(lambda: self._on_contact(attempt)))
        attempt.add_done_callback(lambda _: self._changed.set())
        self._attempts.append(attempt)
        self._silent.append(attempt)
        if len(self._silent) > MAX_SILENT_ATTEMPTS:
            self._silent.pop(0).cancel()

    def _on_contact(self, attempt: asyncio.Task[T]) -> None:
        """Cancel the other silent attempts, so that only one logs in."""
        if attempt in self._silent:
            self._silent.remove(attempt)
            while self._silent:
                self._silent.pop().cancel()
            self._changed.set()

    def _is_answered(self) -> bool:
        """Whether an attempt in progress has been answered, so that its result is worth waiting for."""
        return any(not (attempt.done() or attempt.cancelling() or attempt in self._silent) for attempt in self._attempts)

    def _is_successful(self, attempt: asyncio.Task[T], on_failure: Callable[[PacelineError], None]) -> bool:
        """Whether an attempt that has ended succeeded. Raises what it raised after an answer."""
        self._attempts.remove(attempt)
        if attempt.cancelled():
            return False
        error = attempt.exception()
        if error is None:
            return True
        if attempt not in self._silent or not isinstance(error, PacelineError) or isinstance(error, NodeRefused):
            raise error
        self._silent.remove(attempt)
        on_failure(error)
        return False

    async def _cancel_all(self) -> None:
        """Cancel all attempts. Returns when they have ended."""
        for attempt in self._attempts:
            attempt.cancel()
        await asyncio.gather(*self._attempts, return_exceptions=True)
        self._attempts.clear()
        self._silent.clear()
