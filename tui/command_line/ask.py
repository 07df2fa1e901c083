"""Asks a person what a login needs, where a verb prints to a terminal: host keys, passphrases and codes. A secret is not shown."""

from __future__ import annotations

import asyncio
import getpass
import sys
from collections.abc import Callable

from paceline.engine.ssh.prompts import LoginPrompt

from ..terminal.format import sanitize

MAX_PROMPT_CHARS = 500


class TerminalPrompts:
    """Shows one prompt at a time on the terminal; ``pause`` takes a progress bar away before it."""

    def __init__(self, pause: Callable[[], None]) -> None:
        self._pause = pause
        self._one_at_a_time = asyncio.Lock()

    async def __call__(self, prompt: LoginPrompt) -> str | None:
        """The answer of the person; None where there is none. A host key is accepted by the word ``yes``."""
        async with self._one_at_a_time:
            self._pause()
            text = sanitize(f"{prompt.node}: {prompt.text}", MAX_PROMPT_CHARS)
            question = f"{text}; yes or no? " if prompt.kind == "host key" else f"{text}: "
            answer = await asyncio.to_thread(_read_secret if prompt.is_secret else _read_line, question)
        if prompt.kind == "host key":
            return "yes" if answer == "yes" else None
        return answer or None


def _read_secret(question: str) -> str:
    try:
        return getpass.getpass(question, stream=sys.stderr)
    except (EOFError, OSError):
        return ""


def _read_line(question: str) -> str:
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline().strip()
