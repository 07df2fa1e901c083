"""The option ``--on-end``: a shell command that runs when a run has ended, with the run in its environment and a time limit.

The shell reads what the person typed; what nodes wrote reaches it in variables only.
"""

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

NOT_FOUND_STATUS = 127
"""Exit status of a shell that finds no such command (POSIX)."""
HOOK_TIMEOUT_S = 60.0
"""Seconds until the command and its process group are killed."""
MAX_REASON_CHARS = 2000
"""Characters of the reason in the environment of the command."""


class RunStream(Protocol):
    """The events of a control process."""

    @property
    def run_id(self) -> str | None:
        """The run that was launched or attached to last."""
        ...

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Call ``listener`` with every event from now on. Returns a function that unsubscribes it."""
        ...

    def publish(self, event: Event) -> None:
        """Publish an event to all listeners."""
        ...


def shell_command(command: str) -> list[str]:
    """A command as a person types it, for ``/bin/sh``. Raises UsageError where it is empty, or a quote is not closed."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"cannot read the command {command!r}: {error}") from None
    if not words:
        raise UsageError("--on-end needs a command", hint="such as  --on-end 'notify-send paceline'")
    return ["/bin/sh", "-c", command]


@contextlib.asynccontextmanager
async def with_on_end_hook(stream: RunStream, command: str | None) -> AsyncIterator[None]:
    """Run ``command`` once after the block if the run of the block ended in it, in whatever state.

    It does not run when only the view of the run was lost, nor for a profiling run that preceded the job.
    """
    if command is None:
        yield
        return
    argv = shell_command(command)
    ends: list[RunEnded] = []
    stop = stream.subscribe(lambda event: ends.append(event) if isinstance(event, RunEnded) else None)
    try:
        yield
    finally:
        stop()
        run_ends = [end for end in ends if end.run_id == stream.run_id]
        if run_ends and (failure := await run_hook(argv, run_ends[-1])):
            stream.publish(Warned(reason=f"--on-end {command}: {failure}"))


async def run_hook(argv: list[str], ended: RunEnded, timeout_s: float = HOOK_TIMEOUT_S) -> str:
    """Run the command to its end; returns what failed, or an empty string. Its output is discarded."""
    env = {**os.environ, "PACELINE_RUN": ended.run_id, "PACELINE_STATE": ended.state, "PACELINE_REASON": ended.reason}
    env |= {name: printable(env[name]) for name in ("PACELINE_RUN", "PACELINE_STATE", "PACELINE_REASON")}
    devnull = asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=devnull, stdout=devnull, stderr=devnull, env=env, start_new_session=True
        )
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    try:
        async with asyncio.timeout(timeout_s):  # wait_for of 3.11 may swallow a cancellation
            status = await process.wait()
    except (TimeoutError, asyncio.CancelledError) as error:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        if isinstance(error, asyncio.CancelledError):
            raise
        return f"killed after {timeout_s:g} s"
    if status == NOT_FOUND_STATUS:
        return "there is no such command"
    return f"ended with status {status}" if status else ""


def printable(text: str) -> str:
    """Text of a node for another program: one line without control characters."""
    return "".join(char if char.isprintable() else " " for char in text[:MAX_REASON_CHARS])
