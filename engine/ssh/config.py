"""The settings of one host in ~/.ssh/config. Options that switch host key checks off are refused.

asyncssh parses the file but silently ignores the options that decide about trust; a subclass of its parser reads these too.
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

_SAFE_STRICT_VALUES = ("yes", "true", "ask")
"""Values of StrictHostKeyChecking that leave the decision to known_hosts and a person."""


@dataclass(frozen=True)
class HostSettings:
    """The settings of one host, ``Match final`` applied."""

    host: str
    """The address to connect to."""
    port: int | None
    user: str | None
    proxy_jump: str | None
    known_hosts_name: str
    """Name of the host in known_hosts: HostKeyAlias, or the address."""
    has_alias: bool
    known_hosts_files: tuple[str, ...]
    """Files in which known keys are looked up. New keys are added to the first."""
    has_hashed_hosts: bool
    """HashKnownHosts: whether new entries hide the host name."""
    has_host_key_algorithms: bool
    """Whether HostKeyAlgorithms is set; it then decides which types of keys are requested."""
    has_ciphers: bool
    """Whether Ciphers is set; it then decides which ciphers are offered."""
    has_proxy_command: bool
    """Whether a ProxyCommand makes the connection."""
    address_family: int
    """Address family of the socket."""
    local_address: tuple[str, int] | None
    """Local address of the socket."""
    identity_files: tuple[str, ...] | None
    """IdentityFile; None: not set."""
    certificate_files: tuple[str, ...]
    is_identities_only: bool
    """IdentitiesOnly."""
    agent_path: str | None
    """Path of the socket of ssh-agent; None: no agent is used."""
    unsafe_options: str
    """Options that switch host key checks off, as written in the file; empty: none."""

    def refuse_unsafe_options(self, host: str) -> None:
        """Raises NodeRefused where an option switches host key checks off for this host."""
        if self.unsafe_options:
            raise NodeRefused(
                f"~/.ssh/config switches host key checks off for {host} ({self.unsafe_options})",
                hint="remove that line, or for a node pin host_key in nodes.toml",
            )


async def read_config(host: str, user: str | None) -> HostSettings:
    """Read the settings of a host, in a thread because ``Match exec`` runs commands. Raises asyncssh.ConfigParseError."""
    return await asyncio.to_thread(_read, host, user)


class _Parser(SSHClientConfig):
    """asyncssh's parser, extended by options that it ignores."""

    _handlers = {  # noqa: RUF012
        **SSHClientConfig._handlers,
        "stricthostkeychecking": ("StrictHostKeyChecking", SSHClientConfig._set_string),
        "nohostauthenticationforlocalhost": ("NoHostAuthenticationForLocalhost", SSHClientConfig._set_bool),
        "hashknownhosts": ("HashKnownHosts", SSHClientConfig._set_bool),
    }
    _percent_expand = SSHClientConfig._percent_expand | {"UserKnownHostsFile"}


def _read(host: str, user: str | None) -> HostSettings:
    path = Path("~/.ssh/config").expanduser()
    files = [path] if os.access(path, os.R_OK) else []

    def parse(canonical: bool, final: bool) -> Any:
        return _Parser.load(None, files, False, canonical, final, getpass.getuser(), user if user is not None else (), host, ())

    config = parse(False, False)
    unsafe = _unsafe_options(config)
    is_canonical = config.get("CanonicalizeHostname") not in (None, False)
    if config.has_match_final() or is_canonical:
        config = parse(is_canonical, config.has_match_final())
        unsafe += _unsafe_options(config)
    alias, bind = config.get("HostKeyAlias"), config.get("BindAddress")
    user_files = config.get("UserKnownHostsFile") or ["~/.ssh/known_hosts"]
    global_files = config.get("GlobalKnownHostsFile") or ["/etc/ssh/ssh_known_hosts"]
    keys = config.get("IdentityFile")
    address = str(config.get("Hostname") or host)
    return HostSettings(
        host=address,
        port=config.get("Port"),
        user=config.get("User"),
        proxy_jump=config.get("ProxyJump"),
        known_hosts_name=str(alias or address),
        has_alias=bool(alias),
        known_hosts_files=tuple(os.path.expanduser(name) for name in (*user_files, *global_files)),
        has_hashed_hosts=bool(config.get("HashKnownHosts")),
        has_host_key_algorithms=config.get("HostKeyAlgorithms") is not None,
        has_ciphers=config.get("Ciphers") is not None,
        has_proxy_command=config.get("ProxyCommand") is not None,
        address_family=config.get("AddressFamily") or 0,
        local_address=(str(bind), 0) if bind else None,
        identity_files=None if keys is None else tuple(os.path.expanduser(name) for name in keys),
        certificate_files=tuple(os.path.expanduser(name) for name in config.get("CertificateFile") or ()),
        is_identities_only=bool(config.get("IdentitiesOnly")),
        agent_path=_agent_path(config.get("IdentityAgent", "SSH_AUTH_SOCK")),
        unsafe_options="; ".join(dict.fromkeys(unsafe)),
    )


def _unsafe_options(config: Any) -> list[str]:
    """Options that switch host key checks off, as written in the file."""
    unsafe = []
    strict = config.get("StrictHostKeyChecking")
    if strict is not None and str(strict).lower() not in _SAFE_STRICT_VALUES:
        unsafe.append(f"StrictHostKeyChecking {strict}")
    files = config.get("UserKnownHostsFile")
    if files is not None and not files:
        unsafe.append("UserKnownHostsFile none")
    unsafe += [f"UserKnownHostsFile {name}" for name in files or () if os.path.realpath(os.path.expanduser(name)) == os.devnull]
    if config.get("NoHostAuthenticationForLocalhost"):
        unsafe.append("NoHostAuthenticationForLocalhost yes")
    return unsafe


def _agent_path(value: str | None) -> str | None:
    """The socket that IdentityAgent names by path or environment variable; None: no agent."""
    if value == "SSH_AUTH_SOCK" or (value or "").startswith("$"):
        value = os.environ.get((value or "").strip("${}"))
    return os.path.expanduser(value) if value else None
