"""Waiting for a condition: the one way in which tests wait.

A test never sleeps for a time that seems long enough: it names what it waits for. The limit only ends a test that hangs; no
behaviour is judged by it.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

SAFETY_LIMIT_S = 240.0
"""Seconds until a wait fails its test: below pytest's own limit, so that the message names the condition."""
POLL_S = 0.01

T = TypeVar("T")


async def until(condition: Callable[[], T | None], pause: Callable[[], Awaitable[object]] | None = None) -> T:
    """Wait until a condition is true and return its value.

    ``pause`` is awaited between two looks, instead of a short sleep. What the condition raises ends the wait.
    """
    deadline = time.monotonic() + SAFETY_LIMIT_S
    while not (value := condition()):
        _check(deadline, condition)
        await (asyncio.sleep(POLL_S) if pause is None else pause())
    return value


def until_sync(condition: Callable[[], T | None], pause: Callable[[], object] = lambda: time.sleep(POLL_S)) -> T:
    """``until`` for tests without an event loop."""
    deadline = time.monotonic() + SAFETY_LIMIT_S
    while not (value := condition()):
        _check(deadline, condition)
        pause()
    return value


async def loop_turns(count: int = 1) -> None:
    """Let other tasks run for ``count`` turns of the event loop: to their first wait, or to show that nothing more happens."""
    for _ in range(count):
        await asyncio.sleep(0)


def _check(deadline: float, condition: Callable[[], object]) -> None:
    if time.monotonic() > deadline:
        try:
            source = inspect.getsource(condition).strip()
        except (OSError, TypeError):
            source = repr(condition)
        raise AssertionError(f"not within {SAFETY_LIMIT_S:.0f} s: {source}")
