"""A notice when a run ends: one command of the person, told the run by its environment, with a limit on its time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from ...errors import UsageError
from ...events import Event, RunEnded, Warned

LIMIT = 60.0
"""Seconds the command may take; then it and what it started are killed."""
LONGEST = 2000
"""Characters of the reason in its environment."""


class Stream(Protocol):
    """What is listened to, and told about trouble."""

    @property
    def run_id(self) -> str | None:
        """The run that was launched or taken up last."""
        ...

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Hear every event from now on; what is returned ends that."""
        ...

    def publish(self, event: Event) -> None:
        """Hand an event to everybody who listens."""
        ...


def arguments(command: str) -> list[str]:
    """A command as typed, as the words of a program: no shell reads it. Raises UsageError."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"cannot read the command {command!r}: {error}") from None
    if not words:
        raise UsageError("--on-end needs a command", hint="such as  --on-end 'notify-send paceline'")
    return words


@contextlib.asynccontextmanager
async def with_on_end_hook(stream: Stream, command: str | None) -> AsyncIterator[None]:
    """Run ``command`` once after the block if its run ended in it, however; not when only the view of the run is gone.

    A profiling that came before it is not its run.
    """
    if command is None:
        yield
        return
    words = arguments(command)
    ends: list[RunEnded] = []
    stop = stream.subscribe(lambda event: ends.append(event) if isinstance(event, RunEnded) else None)
    try:
        yield
    finally:
        stop()
        mine = [end for end in ends if end.run_id == stream.run_id]
        if mine and (trouble := await run_hook(words, mine[-1])):
            stream.publish(Warned(reason=f"--on-end {words[0]}: {trouble}"))


async def run_hook(words: list[str], ended: RunEnded, limit: float = LIMIT) -> str:
    """Run the command to its end; gives what went wrong, empty if nothing. Its words do not reach our output."""
    env = {**os.environ, "PACELINE_RUN": ended.run_id, "PACELINE_STATE": ended.state, "PACELINE_REASON": ended.reason}
    env |= {name: plain(env[name]) for name in ("PACELINE_RUN", "PACELINE_STATE", "PACELINE_REASON")}
    silence = asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            *words, stdin=silence, stdout=silence, stderr=silence, env=env, start_new_session=True
        )
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    try:
        async with asyncio.timeout(limit):  # wait_for of 3.11 may swallow a cancellation
            status = await process.wait()
    except (TimeoutError, asyncio.CancelledError) as error:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        if isinstance(error, asyncio.CancelledError):
            raise
        return f"killed after {limit:g} s"
    return f"ended with status {status}" if status else ""


def plain(text: str) -> str:
    """A node's words for another program: one line without what acts on a terminal."""
    return "".join(sign if sign.isprintable() else " " for sign in text[:LONGEST])
