"""The settings of one host in ~/.ssh/config and /etc/ssh/ssh_config. Options that switch host key checks off are refused."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asyncssh.encryption import get_encryption_algs
from asyncssh.kex import get_kex_algs
from asyncssh.mac import get_mac_algs
from asyncssh.public_key import get_public_key_algs

from ..errors import NodeRefused
from .openssh.config_file import HostConfig, HostQuery, expand, expansion_tokens, read_host
from .openssh.config_lines import ConfigError

_SAFE_STRICT_VALUES = ("yes", "true", "ask")
"""Values of StrictHostKeyChecking that leave the decision to known_hosts and a person."""
_KNOWN_HOSTS_FILES = ["~/.ssh/known_hosts", "~/.ssh/known_hosts2"]
_GLOBAL_KNOWN_HOSTS_FILES = ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"]
_SHELL_CHARACTERS = re.compile(r"[\'`\"$\\\\;&<>|(){}\n\t ]")
"""Characters that a host or a user in a ProxyCommand must not hold, because a shell reads it; OpenSSH 9.6 refuses them, too."""


@dataclass(frozen=True)
class HostSettings:
    """The settings of one host, with ``Match final`` applied."""

    host: str
    """The address to connect to."""
    port: int | None
    user: str | None
    proxy_jump: str | None
    """Jump hosts; None: the host is reached directly, or by ``proxy_command``."""
    proxy_command: tuple[str, ...] | None
    """The program that makes the connection, run by the person's shell as ssh does; None: none."""
    known_hosts_name: str
    """Name of the host in known_hosts: HostKeyAlias, or the address."""
    has_alias: bool
    known_hosts_files: tuple[str, ...]
    """Files in which known keys are looked up. New keys are added to the first."""
    revoked_keys_file: str | None
    """RevokedHostKeys."""
    has_hashed_hosts: bool
    """HashKnownHosts: whether new entries hide the host name."""
    host_key_algorithms: str | None
    """HostKeyAlgorithms, which then decides which types of keys are requested."""
    has_ciphers: bool
    """Whether Ciphers is set; it then decides which ciphers are offered."""
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
    warnings: tuple[str, ...] = ()
    """What of the files was left out, with file and line."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further options of the connection, as asyncssh takes them."""

    def refuse_unsafe_options(self, host: str) -> None:
        """Raises NodeRefused where an option switches host key checks off for this host."""
        if self.unsafe_options:
            raise NodeRefused(
                f"~/.ssh/config switches host key checks off for {host} ({self.unsafe_options})",
                hint="remove that line, or for a node pin host_key in nodes.toml",
            )


async def read_config(host: str, user: str | None = None, port: int | None = None) -> HostSettings:
    """Read the settings of a host, in a thread because ``Match exec`` runs commands. Raises NodeRefused for files that ssh refuses.

    ``user``, ``port``: as given to ssh with ``-l`` and ``-p``.
    """
    try:
        return await asyncio.to_thread(_read, HostQuery(host, user, port))
    except ConfigError as error:
        raise NodeRefused(f"the ssh configuration: {error}", hint="ssh -G HOST shows what is wrong") from None


def _read(query: HostQuery) -> HostSettings:
    home = Path(os.path.expanduser("~"))
    config = read_host(query, home)
    tokens = expansion_tokens(query, config, config.host, home)

    def paths(names: list[str] | None) -> tuple[str, ...]:
        return tuple(os.path.expanduser(expand(name, tokens, True)) for name in names or () if name.lower() != "none")

    alias, bind = config.get("hostkeyalias"), config.get("bindaddress")
    keys = config.get("identityfile")
    return HostSettings(
        host=config.host,
        port=config.get("port"),
        user=config.get("user"),
        proxy_jump=_proxy_jump(config, tokens),
        proxy_command=_proxy_command(config, tokens),
        known_hosts_name=str(alias or config.host).lower(),
        has_alias=bool(alias),
        known_hosts_files=paths(
            [*config.get("userknownhostsfile", _KNOWN_HOSTS_FILES), *config.get("globalknownhostsfile", _GLOBAL_KNOWN_HOSTS_FILES)]
        ),
        revoked_keys_file=next(iter(paths([config.get("revokedhostkeys", "none")])), None),
        has_hashed_hosts=bool(config.get("hashknownhosts")),
        host_key_algorithms=_known_names(config.get("hostkeyalgorithms"), get_public_key_algs()),
        has_ciphers=config.get("ciphers") is not None,
        address_family={"inet": socket.AF_INET, "inet6": socket.AF_INET6}.get(str(config.get("addressfamily")).lower(), 0),
        local_address=(str(bind), 0) if bind else None,
        identity_files=None if keys is None else paths(keys),
        certificate_files=paths(config.get("certificatefile")),
        is_identities_only=bool(config.get("identitiesonly")),
        agent_path=_agent_path(config.get("identityagent", "SSH_AUTH_SOCK"), tokens),
        unsafe_options="; ".join(_unsafe_options(config)),
        warnings=tuple(config.warnings),
        options=_connection_options(config),
    )


def _connection_options(config: HostConfig) -> dict[str, Any]:
    """Options that asyncssh takes by other names. Algorithms that it does not know are left out."""
    variables = [str(name) for name in config.get("sendenv", ())]
    pairs = (pair.partition("=") for pair in config.get("setenv", ()) if str(pair).lower() != "none")
    options = {
        "encryption_algs": _known_names(config.get("ciphers"), get_encryption_algs()),
        "mac_algs": _known_names(config.get("macs"), get_mac_algs()),
        "kex_algs": _known_names(config.get("kexalgorithms"), get_kex_algs()),
        "compression_algs": "zlib@openssh.com,zlib,none" if config.get("compression") else None,
        "public_key_auth": config.get("pubkeyauthentication"),
        "password_auth": config.get("passwordauthentication"),
        "kbdint_auth": config.get("kbdinteractiveauthentication"),
        "gss_auth": config.get("gssapiauthentication"),
        "gss_delegate_creds": config.get("gssapidelegatecredentials"),
        "preferred_auth": config.get("preferredauthentications"),
        "pkcs11_provider": config.get("pkcs11provider"),
        "tcp_keepalive": config.get("tcpkeepalive"),
        "send_env": variables or None,
        "env": {name: value for name, _, value in pairs} or None,
    }
    return {name: value for name, value in options.items() if value is not None}


def _known_names(value: str | None, known: list[bytes]) -> str | None:
    """A list of algorithms without the plain names that asyncssh does not know; with its sign, which adds, removes or prefers."""
    if value is None:
        return None
    sign = value[:1] if value[:1] in "+-^" else ""
    names = {name.decode() for name in known}
    return sign + ",".join(name for name in value[len(sign) :].split(",") if name in names or "*" in name or "?" in name)


def _proxy_jump(config: HostConfig, tokens: dict[str, str]) -> str | None:
    value = str(config.get("proxyjump", "none"))
    return None if value.lower() == "none" else expand(value, tokens, False)


def _proxy_command(config: HostConfig, tokens: dict[str, str]) -> tuple[str, ...] | None:
    value = str(config.get("proxycommand", "none"))
    if value.lower() == "none":
        return None
    for name in ("h", "n", "r"):
        if f"%{name}" in value and _SHELL_CHARACTERS.search(tokens[name]):
            raise ConfigError(f"{tokens[name]!r} must not stand in the ProxyCommand {value!r}: a shell would read it")
    command = expand(value, tokens, False)
    return (os.environ.get("SHELL") or "/bin/sh", "-c", f"exec {command}")


def _unsafe_options(config: HostConfig) -> list[str]:
    """Options that switch host key checks off, as written in the file."""
    unsafe = []
    strict = config.get("stricthostkeychecking")
    if strict is not None and str(strict).lower() not in _SAFE_STRICT_VALUES:
        unsafe.append(f"StrictHostKeyChecking {strict}")
    for name in config.get("userknownhostsfile", ()):
        if name.lower() == "none" or os.path.realpath(os.path.expanduser(name)) == os.devnull:
            unsafe.append(f"UserKnownHostsFile {name}")
    if config.get("nohostauthenticationforlocalhost"):
        unsafe.append("NoHostAuthenticationForLocalhost yes")
    return unsafe


def _agent_path(value: str, tokens: dict[str, str]) -> str | None:
    """The socket that IdentityAgent names by path or environment variable; None: no agent."""
    if value.lower() == "none":
        return None
    if value == "SSH_AUTH_SOCK" or (value.startswith("$") and not value.startswith("${")):
        path = os.environ.get(value.removeprefix("$"))
    else:
        path = expand(value, tokens, True)
    return os.path.expanduser(path) if path else None
