"""A limit on one wait, for Python 3.10: ``asyncio.wait_for`` may swallow a cancellation there that comes with the result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def with_timeout(seconds: float, work: Awaitable[T]) -> T:
    """The result of ``work``. Raises asyncio.TimeoutError after so many seconds; ``work`` is cancelled then, and when we are."""
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
    if not done:
        await asyncio.wait({task})
        raise asyncio.TimeoutError
    return task.result()
