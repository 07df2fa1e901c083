"""The session without a screen, for screen readers and simple terminals: one sentence per event, one command per line.

No line is redrawn. Verbs, answers and sentences are the same as in the other modes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING

from paceline.engine.errors import PacelineError
from paceline.engine.events import Event, ResultDerived
from paceline.engine.inventory.choice import load_inventory
from paceline.engine.ssh.prompts import LoginPrompt

from ..command_line.commands import VERBS, check_allowed
from ..command_line.narration import Narrator
from ..command_line.render import render
from ..control_log import control_log, log_path
from ..preferences import preferences_path, read_preferences
from ..terminal.format import duration, number, ratio, sanitize
from .live_session import LiveSession
from .session import Answer

if TYPE_CHECKING:
    from paceline.engine.telemetry.replay import ReplaySession

WELCOME = "type a command, such as status or bench; help lists all of them, q leaves and runs go on"
REPLAY_WELCOME = "a replay: type pause, speed 4, seek 1:35, seek next, seek previous, step or step back; q leaves"
MAX_SENTENCE_CHARS = 2000


def run(args: argparse.Namespace, nodes: Path, line: str) -> int:
    """Run a plain session until the person leaves, or the input has ended and the verb is done; returns the exit status."""
    verb = VERBS[args.verb] if args.verb else None
    is_read_only = args.read_only or read_preferences(preferences_path()).read_only
    if verb is not None:
        check_allowed(verb, args, is_read_only)
    if verb is not None and verb.name == "replay":
        from paceline.engine.telemetry.replay import ReplaySession

        replay = ReplaySession(args.file, args.speed, args.at)
        return asyncio.run(PlainSession(replay).run())
    is_on_lab = verb is not None and verb.is_on_embedded_lab
    inventory = load_inventory(nodes, args.only, is_embedded_only=is_on_lab, is_named=args.nodes is not None)

    async def session() -> int:
        return await PlainSession(LiveSession(inventory, line, args.record, is_read_only)).run()

    with control_log(log_path(nodes)):
        return asyncio.run(session())


class PlainSession:
    """Reads commands from standard input and writes sentences to standard output."""

    def __init__(self, session: LiveSession | ReplaySession) -> None:
        self._session = session
        self._narrator = Narrator(sys.stdout, session.subscribe, is_plain=True)
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        """Typed lines; None: the input has ended."""
        self._partial_line = b""
        self._status = 0
        self._is_leaving = asyncio.Event()
        self._answer: asyncio.Future[str | None] | None = None
        if isinstance(session, LiveSession):
            session.ask = self._ask
        session.subscribe(self._on_event)

    async def run(self) -> int:
        """Run to the end; returns the exit status."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(signum, self._interrupt, signum)
        self._print(REPLAY_WELCOME if self._session.is_replay else WELCOME)
        work, leaving = asyncio.create_task(self._execute_lines()), asyncio.create_task(self._is_leaving.wait())
        try:
            loop.add_reader(sys.stdin.fileno(), self._read)
        except PermissionError:  # epoll refuses a regular file, which is always readable
            while self._read():
                continue
        try:
            await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            loop.remove_reader(sys.stdin.fileno())
            for task in (work, leaving):
                task.cancel()
            await asyncio.gather(work, leaving, return_exceptions=True)
            self._narrator.close()
            await self._session.close()
        return self._status or (self._session.exit_status if isinstance(self._session, LiveSession) else 0)

    async def _execute_lines(self) -> None:
        """Execute line by line; at the end of the input wait for all work."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._perform(self._session.open()))
            while (line := await self._lines.get()) is not None:
                if line in ("q", "quit", "exit"):
                    self._is_leaving.set()
                elif line in ("help", "?") and self._session.is_replay:
                    self._print(REPLAY_WELCOME)
                elif line in ("help", "?"):
                    for verb in VERBS.values():
                        self._print(f"{verb.name}: {verb.summary}")
                elif line:
                    is_jump = line.split()[0] in ("seek", "step")
                    group.create_task(self._perform(self._session.perform(line), is_jump))
        await self._session.finished()

    async def _perform(self, work: Awaitable[Answer | None], is_jump: bool = False) -> None:
        try:
            answer = await work
        except PacelineError as error:
            self._status = error.exit_status
            self._print(str(error))
            return
        self._status = 0
        if is_jump and not isinstance(self._session, LiveSession):
            mark = self._session.mark_here()
            what = f": {mark.text}" if mark is not None else ""
            self._print(f"replay at {duration(self._session.at)} of {duration(self._session.length)}{what}")
        if answer is not None:
            for line in render(answer.document).splitlines():
                self._print(line)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, ResultDerived):
            for case in event.document.get("cases") or [event.document]:
                speedup = case.get("speedup_over_equal")
                than = f", {ratio(speedup)} as fast as equal" if speedup is not None else ""
                if case.get("samples_per_second") is not None:
                    self._print(f"result of {case['policy']}: {number(case['samples_per_second'])} samples/s{than}")

    def _read(self) -> bool:
        """Read typed lines; returns whether the input goes on. At its end the work is still finished."""
        data = os.read(sys.stdin.fileno(), 65536)
        *lines, self._partial_line = (self._partial_line + data).split(b"\n")
        for line in lines if data else [*lines, self._partial_line]:
            self._on_line(line.decode(errors="replace").strip())
        if not data:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            self._lines.put_nowait(None)
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(None)
        return bool(data)

    def _on_line(self, line: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(line)
        else:
            self._lines.put_nowait(line)

    async def _ask(self, prompt: LoginPrompt) -> str | None:
        """Answer a login prompt with the next line. A secret is not asked for: it would be visible while typed."""
        if prompt.is_secret:
            self._print(f"{prompt.node}: {prompt.text}: not asked here, where it would be visible; use ssh-agent")
            return None
        self._print(f"{prompt.node}: {prompt.text}; {'yes or no?' if prompt.kind == 'host key' else 'the answer?'}")
        self._answer = asyncio.get_running_loop().create_future()
        answer = await self._answer
        return answer or None if prompt.kind != "host key" else "yes" if answer == "yes" else None

    def _interrupt(self, signum: int) -> None:
        self._status = 128 + signum
        self._is_leaving.set()

    def _print(self, sentence: str) -> None:
        print(sanitize(sentence, MAX_SENTENCE_CHARS), flush=True)
