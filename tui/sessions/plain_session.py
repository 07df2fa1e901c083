"""The session without a screen, for screen readers and terminals that cannot draw: one sentence an event, one command a line.

Nothing is drawn again, nothing moves: what was said stands. The same verbs, answers and sentences as everywhere else.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Awaitable
from pathlib import Path

from paceline.engine.errors import PacelineError
from paceline.engine.events import Event, ResultDerived
from paceline.engine.inventory.choice import inventory_for
from paceline.engine.ssh.prompts import LoginPrompt

from ..command_line.commands import VERBS, check_allowed
from ..command_line.render import render
from ..preferences import preferences_path, read
from ..terminal.format import number, ratio, untrusted
from .live_session import LiveSession
from .narration import Narrator
from .session import Answer

WELCOME = "type a command, such as status or bench; help names all of them, q leaves and runs go on"
LONGEST = 2000
"""Characters of a sentence."""


def run(args: argparse.Namespace, nodes: Path, line: str) -> int:
    """Talk until the person leaves, the input ends, or, without a person, the verb is done; returns the exit status."""
    verb = VERBS[args.verb] if args.verb else None
    is_read_only = args.read_only or read(preferences_path()).read_only
    if verb is not None:
        check_allowed(verb, args, is_read_only)
    inventory = inventory_for(nodes, args.only, is_embedded_only=verb is not None and verb.is_on_embedded_lab)

    async def talk() -> int:
        return await PlainSession(LiveSession(inventory, line, args.record, is_read_only)).hold()

    return asyncio.run(talk())


class PlainSession:
    """Sentences out, lines in."""

    def __init__(self, session: LiveSession) -> None:
        self._session = session
        self._narrator = Narrator(sys.stdout, session.subscribe, is_plain=True)
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        """What was typed; None: there will be no more."""
        self._rest = b""
        self._status = 0
        self._is_leaving = asyncio.Event()
        self._question: asyncio.Future[str | None] | None = None
        session.ask = self._ask
        session.subscribe(self._hear)

    async def hold(self) -> int:
        """From the first sentence to the last; gives the exit status."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(signum, self._interrupt, signum)
        self._say(WELCOME)
        talk, leaving = asyncio.create_task(self._talk()), asyncio.create_task(self._is_leaving.wait())
        try:
            loop.add_reader(sys.stdin.fileno(), self._read)
        except PermissionError:  # a file, which is always ready: all of it is there at once
            while self._read():
                continue
        try:
            await asyncio.wait({talk, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if talk.done():
                talk.result()
        finally:
            loop.remove_reader(sys.stdin.fileno())
            for task in (talk, leaving):
                task.cancel()
            await asyncio.gather(talk, leaving, return_exceptions=True)
            self._narrator.close()
            await self._session.close()
        return self._status or self._session.exit_status

    async def _talk(self) -> None:
        """Obey line by line; where no more can come, until everything that was asked for is done."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._carry_out(self._session.open()))
            while (line := await self._lines.get()) is not None:
                if line in ("q", "quit", "exit"):
                    self._is_leaving.set()
                elif line in ("help", "?"):
                    for verb in VERBS.values():
                        self._say(f"{verb.name}: {verb.summary}")
                elif line:
                    group.create_task(self._carry_out(self._session.perform(line)))
        await self._session.finished()

    async def _carry_out(self, work: Awaitable[Answer | None]) -> None:
        try:
            answer = await work
        except PacelineError as error:
            self._status = error.exit_status
            self._say(str(error))
            return
        self._status = 0
        if answer is not None:
            for line in render(answer.document).splitlines():
                self._say(line)

    def _hear(self, event: Event) -> None:
        if isinstance(event, ResultDerived):
            for case in event.document.get("cases") or [event.document]:
                over = case.get("speedup_over_equal")
                than = f", {ratio(over)} as fast as equal" if over is not None else ""
                if case.get("samples_per_second") is not None:
                    self._say(f"result of {case['policy']}: {number(case['samples_per_second'])} samples/s{than}")

    def _read(self) -> bool:
        """Take what was typed; whether more may come. Without a person, or one who has gone, the work goes on to its end."""
        data = os.read(sys.stdin.fileno(), 65536)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines if data else [*lines, self._rest]:
            self._take(line.decode(errors="replace").strip())
        if not data:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            self._lines.put_nowait(None)
            if self._question is not None and not self._question.done():
                self._question.set_result(None)
        return bool(data)

    def _take(self, line: str) -> None:
        if self._question is not None and not self._question.done():
            self._question.set_result(line)
        else:
            self._lines.put_nowait(line)

    async def _ask(self, question: LoginPrompt) -> str | None:
        """A question of a login, answered with the next line; a secret would be seen as it is typed, so it is not asked for."""
        if question.is_secret:
            self._say(f"{question.node}: {question.text}: not asked here, where it would be seen; ssh-agent can hold the key")
            return None
        self._say(f"{question.node}: {question.text}; {'yes or no?' if question.kind == 'host key' else 'the answer?'}")
        self._question = asyncio.get_running_loop().create_future()
        answer = await self._question
        return answer or None if question.kind != "host key" else "yes" if answer == "yes" else None

    def _interrupt(self, signum: int) -> None:
        self._status = 128 + signum
        self._is_leaving.set()

    def _say(self, sentence: str) -> None:
        print(untrusted(sentence, LONGEST), flush=True)
