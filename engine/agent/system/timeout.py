"""A timeout for one wait that is safe on Python 3.10, where ``asyncio.wait_for`` can swallow a cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def with_timeout(seconds: float, work: Awaitable[T]) -> T:
    """Return the result of ``work``. Raises asyncio.TimeoutError after ``seconds``. ``work`` is cancelled with the wait."""
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        task.add_done_callback(_forget)
        raise
    finally:
        if not task.done():
            task.cancel()
    if not done:
        await asyncio.wait({task})
        raise asyncio.TimeoutError
    return task.result()


def _forget(task: asyncio.Task[T]) -> None:
    """Take note of the end of work that nobody waits for any more: asyncio would report its error as never retrieved."""
    if not task.cancelled():
        task.exception()
