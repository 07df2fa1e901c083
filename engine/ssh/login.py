"""Proving to a machine who we are: keys, an agent, and what only a person knows. Answers are used once and kept nowhere."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from ..errors import NodeRefused
from .config import Settings
from .host_keys import HostKeyCheck
from .prompts import AskPerson, LoginPrompt

TRIES = 3
"""How often one secret is asked for."""
AGENT_TIMEOUT = 5.0
"""Seconds for an agent to list its keys."""
_ROUNDS = 8
"""Challenges in one login; a server that sends more is no login."""
_PROMPTS = 8
"""Questions in one challenge."""
_LENGTH = 300
"""Characters of the other side's words in a question."""
_DEFAULT_KEYS = ("id_ed25519_sk", "id_ecdsa_sk", "id_ed25519", "id_ed448", "id_ecdsa", "id_rsa")
HINT = "a key with a passphrase belongs into ssh-agent (ssh-add); the UI asks for passphrases, passwords and codes"


@dataclass
class Keys:
    """What to offer to one machine."""

    ready: list[Any] = field(default_factory=list)
    """Private keys, each alone or with the path of its certificate."""
    locked: list[tuple[str, bytes | None]] = field(default_factory=list)
    """Files with a passphrase, and their public half where it can be read."""
    identities: list[bytes] | None = None
    """Public halves that the agent may offer; None: all of them."""


def read_keys(settings: Settings, key: str | None) -> Keys:
    """Read the key files for one machine. ``key``: the one of nodes.toml, which must be readable, and alone counts.

    Raises OSError and asyncssh.KeyImportError for that key only: others may be missing, as with ssh.
    """
    found = Keys()
    public: list[bytes] = []
    is_choosy = settings.has_only_these or key is not None
    named = (os.path.expanduser(key),) if key is not None else settings.keys
    for path in named if named is not None else [os.path.expanduser(f"~/.ssh/{name}") for name in _DEFAULT_KEYS]:
        half = _public_half(path) if is_choosy else None
        public += [half] if half is not None else []
        try:
            found.ready.append(_with_certificate(asyncssh.read_private_key(path), path))
        except asyncssh.KeyImportError as error:
            if str(error).startswith("Passphrase"):
                found.locked.append((path, half or _public_half(path)))
            elif key is not None and half is None:
                raise
        except (OSError, ValueError):  # ValueError: a kind that this machine's libraries do not know
            if key is not None:
                raise
    if is_choosy and all(half is not None for _, half in found.locked):
        found.identities = public
    return found


async def unlock(keys: Keys, settings: Settings, node: str, host: str, has_choice: bool, ask: AskPerson | None) -> None:
    """Ask for the passphrases that are needed, before any connection is opened, so that nothing waits there for a person.

    None is asked for a key that the agent holds. ``has_choice``: the keys are the usual ones and not named by anybody: then an
    agent with any key, or one open file, is enough. Raises NodeRefused without an answer, or with three wrong ones.
    """
    if not keys.locked:
        return
    held = await _held(settings.agent)
    if has_choice and (held or keys.ready):
        return
    for path, half in keys.locked:
        if half is not None and half in held:
            continue
        if ask is None:
            if has_choice or keys.ready or (half is None and held):
                continue  # another one may do, or the agent may have this one
            raise NodeRefused(f"the key {path} for {host} has a passphrase", hint=f"unlock it before: ssh-add {path}")
        opened = await _asked(path, node, host, ask)
        keys.ready.append(_with_certificate(opened, path))


async def _asked(path: str, node: str, host: str, ask: AskPerson) -> asyncssh.SSHKey:
    text = f"Passphrase of the key {path}"
    for _ in range(TRIES):
        answer = await ask(LoginPrompt(node, host, "passphrase", text))
        if answer is None:
            raise NodeRefused(f"no passphrase for the key {path}", hint=f"or unlock it before: ssh-add {path}")
        try:
            return await asyncio.to_thread(asyncssh.read_private_key, path, answer)
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
            text = f"That was not it. Passphrase of the key {path}"
    raise NodeRefused(f"{TRIES} wrong passphrases for the key {path}", hint=f"or unlock it before: ssh-add {path}")


async def _held(agent: str | None) -> set[bytes]:
    """Public halves of the keys in the agent; none where it does not answer."""
    if agent is None:
        return set()
    try:
        async with asyncio.timeout(AGENT_TIMEOUT), asyncssh.connect_agent(agent) as client:
            return {key.key_public_data for key in await client.get_keys()}
    except (OSError, ValueError, asyncssh.Error):
        return set()


def _public_half(path: str) -> bytes | None:
    """Of a key file, or of the public file beside it: an agent may hold the private half."""
    for name in (f"{path}.pub", path):
        try:
            return asyncssh.read_public_key(name).public_data
        except (OSError, ValueError):
            continue
    return None


def _with_certificate(key: asyncssh.SSHKey, path: str) -> Any:
    certificate = Path(f"{path}-cert.pub")
    return (key, str(certificate)) if certificate.exists() else key


class Login:
    """What one login has asked a person so far; the connection behind it may be opened several times."""

    def __init__(self, node: str, place: str, ask: AskPerson | None) -> None:
        """``place``: ``user@host``."""
        self._node = node
        self._place = place
        self._ask = ask
        self._tries = self._rounds = 0
        self.is_unanswered = False
        """Whether a person was asked and gave no answer."""

    def may_try(self) -> bool:
        """Begin one more try, if there is somebody to ask and a try left."""
        self._tries += 1
        return self._ask is not None and self._tries <= TRIES and not self.is_unanswered

    async def password(self, timing: Callable[[bool], None]) -> str | None:
        """A password; None: no more of them."""
        if not self.may_try():
            return None
        return await self._put("password", f"{self._again}Password of {self._place}", True, timing)

    async def challenge(self, words: str, prompts: Sequence[tuple[str, bool]], timing: Callable[[bool], None]) -> list[str] | None:
        """Answers to the server's own questions."""
        self._rounds += 1
        if self._rounds > _ROUNDS or len(prompts) > _PROMPTS:
            return None
        answers = []
        for prompt, is_shown in prompts:
            kind = "password" if "password" in prompt.lower() else "code"
            text = f"{self._again}{self._place} asks: {' '.join(f'{words} {prompt}'.split())[:_LENGTH]}"
            answer = await self._put(kind, text, not is_shown, timing)
            if answer is None:
                return None
            answers.append(answer)
        return answers

    @property
    def _again(self) -> str:
        return "That was not it. " if self._tries > 1 else ""

    async def _put(self, kind: str, text: str, is_secret: bool, timing: Callable[[bool], None]) -> str | None:
        assert self._ask is not None
        timing(False)
        answer = await self._ask(LoginPrompt(self._node, self._place.rpartition("@")[2], kind, text, is_secret))
        timing(True)
        self.is_unanswered = answer is None
        return answer


class Client(asyncssh.SSHClient):
    """asyncssh's questions to us: it judges the host key, counts the time, and hands on what the server asks."""

    def __init__(self, login: Login, check: HostKeyCheck | None, timing: Callable[[bool], None]) -> None:
        """``timing`` is told when the login begins or goes on (True), and when a person is to think."""
        self._login = login
        self._check = check
        self._timing = timing

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Asked for keys that known_hosts does not have."""
        return self._check is not None and self._check.judge(key)

    def begin_auth(self, username: str) -> None:
        """The host key was accepted; nothing of ours was sent yet."""
        self._timing(True)

    def password_auth_requested(self) -> Awaitable[str | None]:
        """A password, as long as there are tries left."""
        return self._login.password(self._timing)

    def kbdint_auth_requested(self) -> str | None:
        """Whether the server may ask its own questions."""
        return "" if self._login.may_try() else None

    def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]
    ) -> Awaitable[list[str] | None]:
        """The server's own questions: passwords and one-time codes."""
        return self._login.challenge(f"{name} {instructions}", prompts, self._timing)
