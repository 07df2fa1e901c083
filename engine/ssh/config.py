"""What ~/.ssh/config says of one host, and the lines in it that would switch host key checks off: those are refused.

asyncssh reads the file but ignores in silence what decides about trust there; a parser of our own, made of its, knows these too.
"""

from __future__ import annotations

import asyncio
import getpass
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asyncssh.config import SSHClientConfig

from ..errors import NodeRefused

_ASKING = ("yes", "true", "ask")
"""Values of StrictHostKeyChecking that leave the decision to known_hosts and to a person."""


@dataclass(frozen=True)
class Settings:
    """What the configuration says of one host, ``Match final`` applied."""

    host: str
    """The address to connect to."""
    port: int | None
    user: str | None
    jump: str | None
    name: str
    """What known_hosts calls it: HostKeyAlias, or the address."""
    has_alias: bool
    known_files: tuple[str, ...]
    """Where known keys are looked up; the first is the one that new keys are added to."""
    has_hashed_names: bool
    """Whether new entries hide the name, as HashKnownHosts wants."""
    has_host_key_kinds: bool
    """Whether HostKeyAlgorithms is set: then it decides which kinds of keys are asked for."""
    has_ciphers: bool
    """Whether Ciphers is set: then it decides."""
    has_command: bool
    """Whether a ProxyCommand makes the connection."""
    family: int
    """Address family of the socket."""
    bind: tuple[str, int] | None
    """Local address of the socket."""
    keys: tuple[str, ...] | None
    """IdentityFile; None: not set."""
    certificates: tuple[str, ...]
    has_only_these: bool
    """IdentitiesOnly."""
    agent: str | None
    """Path of the agent's socket; None: none is to be used."""
    switches_off: str
    """The line that would switch host key checks off; empty: none does."""

    def refuse_switching_off(self, host: str) -> None:
        """Raises NodeRefused when a line switches the checks off for this host."""
        if self.switches_off:
            raise NodeRefused(
                f"~/.ssh/config switches host key checks off for {host} ({self.switches_off})",
                hint="remove that line, or for a node pin host_key in nodes.toml",
            )


async def read_config(host: str, user: str | None) -> Settings:
    """Read the configuration for a host; in a thread, for ``Match exec`` runs commands. Raises asyncssh.ConfigParseError."""
    return await asyncio.to_thread(_read, host, user)


class _Parser(SSHClientConfig):
    """asyncssh's parser, with the options that it does not know."""

    _handlers = {  # noqa: RUF012
        **SSHClientConfig._handlers,
        "stricthostkeychecking": ("StrictHostKeyChecking", SSHClientConfig._set_string),
        "nohostauthenticationforlocalhost": ("NoHostAuthenticationForLocalhost", SSHClientConfig._set_bool),
        "hashknownhosts": ("HashKnownHosts", SSHClientConfig._set_bool),
    }
    _percent_expand = SSHClientConfig._percent_expand | {"UserKnownHostsFile"}


def _read(host: str, user: str | None) -> Settings:
    path = Path("~/.ssh/config").expanduser()
    files = [path] if os.access(path, os.R_OK) else []

    def parse(canonical: bool, final: bool) -> Any:
        return _Parser.load(None, files, False, canonical, final, getpass.getuser(), user if user is not None else (), host, ())

    config = parse(False, False)
    lines = _switching_off(config)
    is_canonical = config.get("CanonicalizeHostname") not in (None, False)
    if config.has_match_final() or is_canonical:
        config = parse(is_canonical, config.has_match_final())
        lines += _switching_off(config)
    alias, bind = config.get("HostKeyAlias"), config.get("BindAddress")
    own = config.get("UserKnownHostsFile") or ["~/.ssh/known_hosts"]
    everybody_s = config.get("GlobalKnownHostsFile") or ["/etc/ssh/ssh_known_hosts"]
    keys = config.get("IdentityFile")
    address = str(config.get("Hostname") or host)
    return Settings(
        host=address,
        port=config.get("Port"),
        user=config.get("User"),
        jump=config.get("ProxyJump"),
        name=str(alias or address),
        has_alias=bool(alias),
        known_files=tuple(os.path.expanduser(name) for name in (*own, *everybody_s)),
        has_hashed_names=bool(config.get("HashKnownHosts")),
        has_host_key_kinds=config.get("HostKeyAlgorithms") is not None,
        has_ciphers=config.get("Ciphers") is not None,
        has_command=config.get("ProxyCommand") is not None,
        family=config.get("AddressFamily") or 0,
        bind=(str(bind), 0) if bind else None,
        keys=None if keys is None else tuple(os.path.expanduser(name) for name in keys),
        certificates=tuple(os.path.expanduser(name) for name in config.get("CertificateFile") or ()),
        has_only_these=bool(config.get("IdentitiesOnly")),
        agent=_agent(config.get("IdentityAgent", "SSH_AUTH_SOCK")),
        switches_off="; ".join(dict.fromkeys(lines)),
    )


def _switching_off(config: Any) -> list[str]:
    """The lines that no check would survive, as a person finds them in the file."""
    found = []
    strict = config.get("StrictHostKeyChecking")
    if strict is not None and str(strict).lower() not in _ASKING:
        found.append(f"StrictHostKeyChecking {strict}")
    files = config.get("UserKnownHostsFile")
    if files is not None and not files:
        found.append("UserKnownHostsFile none")
    found += [f"UserKnownHostsFile {name}" for name in files or () if os.path.realpath(os.path.expanduser(name)) == os.devnull]
    if config.get("NoHostAuthenticationForLocalhost"):
        found.append("NoHostAuthenticationForLocalhost yes")
    return found


def _agent(said: str | None) -> str | None:
    """The agent's socket: IdentityAgent may name a path, a variable or ``none``."""
    if said == "SSH_AUTH_SOCK" or (said or "").startswith("$"):
        said = os.environ.get((said or "").strip("${}"))
    return os.path.expanduser(said) if said else None
