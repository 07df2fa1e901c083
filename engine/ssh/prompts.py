"""Prompts of a login that only a person can answer. Imports no asyncssh, because the screens import it too.

Answers are used once and stored nowhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ..states import PromptKind


@dataclass(frozen=True, slots=True)
class LoginPrompt:
    """One prompt of a login."""

    node: str
    """Node whose connection waits for the answer."""
    host: str
    """Machine that asks: the node itself, or a jump host on its route."""
    kind: PromptKind
    text: str
    """Text of the prompt. It may contain text of the server, so it must be escaped before it is shown."""
    is_secret: bool = True
    """Whether the input is hidden. A host key is confirmed with ``yes``."""


AskPerson = Callable[[LoginPrompt], Awaitable[str | None]]
"""Shows a prompt to a person and returns the answer; None: no answer, so the login fails."""


class PromptBroker:
    """Asks a person on behalf of many connections. Identical prompts are asked once; declined ones are not asked again.

    An answer goes to the connections that wait for it at that moment and is then discarded. A one-time code is never shared.
    """

    def __init__(self, ask: AskPerson) -> None:
        self._ask = ask
        self._open: dict[tuple[str, ...], asyncio.Task[str | None]] = {}
        self._waiting: dict[tuple[str, ...], int] = {}
        self._declined: set[tuple[str, ...]] = set()

    async def __call__(self, prompt: LoginPrompt) -> str | None:
        """The answer, or None. A prompt is withdrawn when no connection waits for it any more."""
        if prompt.kind == "code":
            return await self._ask(prompt)
        key = (prompt.kind, prompt.text) if prompt.kind == "passphrase" else (prompt.kind, prompt.host, prompt.text)
        if key in self._declined:
            return None
        task = self._open.get(key)
        if task is None:
            task = self._open[key] = asyncio.create_task(self._ask_person(prompt, key))
        self._waiting[key] = self._waiting.get(key, 0) + 1
        try:
            return await asyncio.shield(task)
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]
                self._remove(key, task)
                task.cancel()

    async def _ask_person(self, prompt: LoginPrompt, key: tuple[str, ...]) -> str | None:
        try:
            answer = await self._ask(prompt)
            if answer is None:
                self._declined.add(key)
            return answer
        finally:
            self._remove(key, asyncio.current_task())

    def _remove(self, key: tuple[str, ...], task: asyncio.Task[str | None] | None) -> None:
        if self._open.get(key) is task:
            del self._open[key]
