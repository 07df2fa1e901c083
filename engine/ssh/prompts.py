"""What a connection may have to ask a person, and who answers. Standard library only: the screens import it too.

Answers are used once and kept nowhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoginPrompt:
    """One thing that only a person can answer."""

    node: str
    """The node whose connection waits."""
    host: str
    """The machine that asks: the node itself or a jump host on the way."""
    kind: str
    """``host key``, ``passphrase``, ``password`` or ``code``."""
    text: str
    """What is asked, in words; may hold text of the other side, so it is shown through the gate."""
    is_secret: bool = True
    """Whether what is typed is hidden; a host key is confirmed with yes."""


AskPerson = Callable[[LoginPrompt], Awaitable[str | None]]
"""Put a question to a person; None: no answer, and the connection is given up."""


class PromptBroker:
    """Puts questions for many connections: what several wait for is asked once, what was declined is not asked again.

    An answer is handed to those who wait for it at that moment and then forgotten. A code is good for one login and never shared.
    """

    def __init__(self, ask: AskPerson) -> None:
        self._ask = ask
        self._open: dict[tuple[str, ...], asyncio.Task[str | None]] = {}
        self._waiting: dict[tuple[str, ...], int] = {}
        self._declined: set[tuple[str, ...]] = set()

    async def __call__(self, question: LoginPrompt) -> str | None:
        """The answer; None where there is none. A question that nobody waits for any more is withdrawn."""
        if question.kind == "code":
            return await self._ask(question)
        key = (question.kind, question.text) if question.kind == "passphrase" else (question.kind, question.host, question.text)
        if key in self._declined:
            return None
        task = self._open.get(key)
        if task is None:
            task = self._open[key] = asyncio.create_task(self._put(question, key))
        self._waiting[key] = self._waiting.get(key, 0) + 1
        try:
            return await asyncio.shield(task)
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]
                self._forget(key, task)
                task.cancel()

    async def _put(self, question: LoginPrompt, key: tuple[str, ...]) -> str | None:
        try:
            answer = await self._ask(question)
            if answer is None:
                self._declined.add(key)
            return answer
        finally:
            self._forget(key, asyncio.current_task())

    def _forget(self, key: tuple[str, ...], task: asyncio.Task[str | None] | None) -> None:
        if self._open.get(key) is task:
            del self._open[key]
