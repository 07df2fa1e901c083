"""Authentication at one machine: key files, ssh-agent, and prompts to a person. Answers are used once and stored nowhere."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from ..errors import NodeRefused
from ..states import PromptKind
from .config import HostSettings
from .host_keys import HostKeys, Trusted, Untrusted
from .prompts import AskPerson, LoginPrompt

MAX_TRIES = 3
"""Prompts for one secret."""
AGENT_TIMEOUT = 5.0
"""Seconds for ssh-agent to list its keys."""
_MAX_CHALLENGES = 8
"""Keyboard-interactive challenges in one login; a server that sends more is refused."""
_MAX_PROMPTS = 8
"""Prompts in one challenge."""
_MAX_PROMPT_CHARS = 300
"""Characters of server text in one prompt."""
_DEFAULT_KEY_FILES = ("id_ed25519_sk", "id_ecdsa_sk", "id_ed25519", "id_ed448", "id_ecdsa", "id_rsa")
AUTHENTICATION_HINT = "a key with a passphrase belongs into ssh-agent (ssh-add); the UI asks for passphrases, passwords and codes"


@dataclass
class ClientKeys:
    """Client keys to offer to one machine."""

    ready: list[Any] = field(default_factory=list)
    """Private keys, each alone or as a pair with the path of its certificate."""
    locked: list[tuple[str, bytes | None]] = field(default_factory=list)
    """Key files with a passphrase, each with its public key where that can be read."""
    identities: list[bytes] | None = None
    """Public keys that ssh-agent may offer; None: all of them."""


def read_keys(settings: HostSettings, key: str | None) -> ClientKeys:
    """Read the key files for one machine. ``key``: the path in nodes.toml, which must be readable and excludes all others.

    Raises OSError and asyncssh.KeyImportError for that key only: other files may be missing, as in ssh.
    """
    keys = ClientKeys()
    public_keys: list[bytes] = []
    is_restricted = settings.is_identities_only or key is not None
    named = (os.path.expanduser(key),) if key is not None else settings.identity_files
    for path in named if named is not None else [os.path.expanduser(f"~/.ssh/{name}") for name in _DEFAULT_KEY_FILES]:
        public_key = _public_key(path) if is_restricted else None
        public_keys += [public_key] if public_key is not None else []
        try:
            keys.ready.append(_with_certificate(asyncssh.read_private_key(path), path))
        except asyncssh.KeyImportError as error:
            if str(error).startswith("Passphrase"):  # asyncssh has no exception of its own for a locked key
                keys.locked.append((path, public_key or _public_key(path)))
            elif key is not None and public_key is None:
                raise
        except (OSError, ValueError):  # ValueError: a key type that the installed libraries do not support
            if key is not None:
                raise
    if is_restricted and all(public_key is not None for _, public_key in keys.locked):
        keys.identities = public_keys
    return keys


async def unlock(keys: ClientKeys, settings: HostSettings, node: str, host: str, is_default: bool, ask: AskPerson | None) -> None:
    """Ask for passphrases before any connection is opened, so that no connection waits for a person.

    A key that ssh-agent holds needs no passphrase. ``is_default``: no file names the keys; then any key in the agent or one
    readable key file is enough. Raises NodeRefused without an answer and after three wrong ones.
    """
    if not keys.locked:
        return
    agent_keys = await _agent_keys(settings.agent_path)
    if is_default and (agent_keys or keys.ready):
        return
    for path, public_key in keys.locked:
        if public_key is not None and public_key in agent_keys:
            continue
        if ask is None:
            if is_default or keys.ready or (public_key is None and agent_keys):
                continue  # another key may be accepted, or the agent may hold this one
            raise NodeRefused(f"the key {path} for {host} has a passphrase", hint=f"unlock it first: ssh-add {path}")
        key = await _unlock_file(path, node, host, ask)
        keys.ready.append(_with_certificate(key, path))


async def _unlock_file(path: str, node: str, host: str, ask: AskPerson) -> asyncssh.SSHKey:
    text = f"Passphrase of the key {path}"
    for _ in range(MAX_TRIES):
        answer = await ask(LoginPrompt(node, host, "passphrase", text))
        if answer is None:
            raise NodeRefused(f"no passphrase for the key {path}", hint=f"or unlock it first: ssh-add {path}")
        try:
            return await asyncio.to_thread(asyncssh.read_private_key, path, answer)
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
            text = f"That was not it. Passphrase of the key {path}"
    raise NodeRefused(f"{MAX_TRIES} wrong passphrases for the key {path}", hint=f"or unlock it first: ssh-add {path}")


async def _agent_keys(agent_path: str | None) -> set[bytes]:
    """Public keys in ssh-agent; empty where it does not answer."""
    if agent_path is None:
        return set()
    try:
        async with asyncio.timeout(AGENT_TIMEOUT), asyncssh.connect_agent(agent_path) as client:
            return {key.key_public_data for key in await client.get_keys()}
    except (OSError, ValueError, asyncssh.Error):
        return set()


def _public_key(path: str) -> bytes | None:
    """The public key of a key file, or of the ``.pub`` file beside it: ssh-agent may hold the private key."""
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
    """The prompts of one login at one machine, and how many of them a person has answered."""

    def __init__(self, node: str, address: str, ask: AskPerson | None) -> None:
        """``address``: ``user@host``."""
        self._node = node
        self._address = address
        self._ask = ask
        self._tries = self._challenges = 0
        self.is_unanswered = False
        """Whether a person was asked and gave no answer."""

    def may_try(self) -> bool:
        """Count one more try; False where nobody can be asked or no try is left."""
        self._tries += 1
        return self._ask is not None and self._tries <= MAX_TRIES and not self.is_unanswered

    async def password(self, set_timer: Callable[[bool], None]) -> str | None:
        """A password, asked from a person; None: no answer, or no try left."""
        if not self.may_try():
            return None
        return await self._ask_person("password", f"{self._retry_prefix}Password of {self._address}", True, set_timer)

    async def challenge(
        self, instructions: str, prompts: Sequence[tuple[str, bool]], set_timer: Callable[[bool], None]
    ) -> list[str] | None:
        """Answers to the prompts of a keyboard-interactive challenge; None: no answer, or too many prompts."""
        self._challenges += 1
        if self._challenges > _MAX_CHALLENGES or len(prompts) > _MAX_PROMPTS:
            return None
        answers = []
        for prompt, is_shown in prompts:
            kind: PromptKind = "password" if "password" in prompt.lower() else "code"
            text = f"{self._retry_prefix}{self._address} asks: {' '.join(f'{instructions} {prompt}'.split())[:_MAX_PROMPT_CHARS]}"
            answer = await self._ask_person(kind, text, not is_shown, set_timer)
            if answer is None:
                return None
            answers.append(answer)
        return answers

    @property
    def _retry_prefix(self) -> str:
        return "That was not it. " if self._tries > 1 else ""

    async def _ask_person(self, kind: PromptKind, text: str, is_secret: bool, set_timer: Callable[[bool], None]) -> str | None:
        assert self._ask is not None
        set_timer(False)
        answer = await self._ask(LoginPrompt(self._node, self._address.rpartition("@")[2], kind, text, is_secret))
        set_timer(True)
        self.is_unanswered = answer is None
        return answer


class Client(asyncssh.SSHClient):
    """asyncssh's callbacks for one connection: host key, timer and authentication prompts."""

    def __init__(self, login: Login, host_keys: HostKeys | None, set_timer: Callable[[bool], None]) -> None:
        """``set_timer(True)`` restarts the login timeout; ``set_timer(False)`` suspends it while a person answers."""
        self._login = login
        self._host_keys = host_keys
        self._set_timer = set_timer
        self.untrusted: Untrusted | None = None
        """The verdict on the key that was not accepted."""

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Whether a key is trusted that known_hosts does not list."""
        if self._host_keys is None:
            return False
        verdict = self._host_keys.verdict(key)
        if isinstance(verdict, Trusted):
            return True
        self.untrusted = verdict
        return False

    def begin_auth(self, username: str) -> None:
        """The host key is trusted; no credential has been sent yet."""
        self._set_timer(True)

    def password_auth_requested(self) -> Awaitable[str | None]:
        """A password, while tries are left."""
        return self._login.password(self._set_timer)

    def kbdint_auth_requested(self) -> str | None:
        """An empty string where the server may send challenges; None where not."""
        return "" if self._login.may_try() else None

    def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]
    ) -> Awaitable[list[str] | None]:
        """Answers to the prompts of the server: passwords and one-time codes."""
        return self._login.challenge(f"{name} {instructions}", prompts, self._set_timer)
