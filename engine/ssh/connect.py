"""Opening one SSH connection: whom to ask, with which key, and whether the answer may be trusted.

Host keys are always verified, those of jump hosts too: against the pin of nodes.toml, else against known_hosts. What nodes.toml
says of a node wins over ~/.ssh/config, and that over [defaults]. Foreign exceptions end here.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import asyncssh

from ..errors import NodeRefused, NodeUnreachable, PacelineError
from ..specs import NodeSpec
from .embedded import EmbeddedNode

CONNECT_TIMEOUT = 10.0
"""Seconds for the TCP connection and the key exchange of one hop."""
LOGIN_TIMEOUT = 15.0
"""Seconds for authentication."""
KEEPALIVE_INTERVAL = 3.0
KEEPALIVE_COUNT = 2
"""A dead peer shows after interval * (count + 1) = 9 s."""
MAX_JUMPS = 8

_HOST_KEY_KINDS = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
]
"""With a pin: plain keys only, for a fingerprint cannot pin a certificate."""
_PLACES = ("host", "port", "user", "key", "jump")


@dataclasses.dataclass(frozen=True)
class _Hop:
    """One machine on the way, as far as nodes.toml decides; None: ~/.ssh/config decides."""

    host: str
    port: int | None = None
    user: str | None = None
    key: str | None = None
    jump: str | None = None
    host_key: str | None = None
    inherited: tuple[str, ...] = ()


_T = TypeVar("_T")


class _Trust(asyncssh.SSHClient):
    """Verifies one host key and remembers why it was refused."""

    def __init__(self, pin: str | None, known_files: list[str]) -> None:
        self._pin = pin
        self._known_files = known_files
        self._is_known_otherwise = False
        self.refusal: tuple[str, str] | None = None
        """Reason and hint."""

    def match(self, host: str, address: str, port: int | None) -> Any:
        """The keys that known_hosts has for this host; with a pin none counts, so that ``validate_host_public_key`` decides."""
        if self._pin is not None:
            return [], [], [], [], [], [], []
        found = asyncssh.match_known_hosts(asyncssh.read_known_hosts(self._known_files), host, address, port)
        self._is_known_otherwise = bool(found[0] or found[1])
        return found

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Asked only for a key that is not in known_hosts."""
        fingerprint = key.get_fingerprint()
        if self._pin is not None:
            if fingerprint == self._pin:
                return True
            self.refusal = (
                f"the host key of {host} is {fingerprint}, but nodes.toml pins {self._pin}",
                "somebody may be in between: compare the fingerprint on the machine itself before you change the pin",
            )
        elif self._is_known_otherwise:
            self.refusal = (
                f"the host key of {host} has CHANGED: it is now {fingerprint}",
                "somebody may be in between: compare the fingerprint on the machine itself, then ssh-keygen -R " + host,
            )
        else:
            self.refusal = (
                f"the host key of {host} is unknown: {fingerprint}",
                "compare the fingerprint, then put it into nodes.toml as host_key, or connect once with ssh",
            )
        return False


async def open_connection(spec: NodeSpec, embedded: EmbeddedNode | None = None) -> asyncssh.SSHClientConnection:
    """Connect to a node. Raises NodeRefused or NodeUnreachable with the node's name."""
    try:
        if embedded is not None:
            return await _connect_embedded(embedded)
        hop = _Hop(spec.host or spec.name, spec.port, spec.user, spec.key, spec.jump, spec.host_key, spec.inherited)
        return await _connect_hop(hop, None, MAX_JUMPS)
    except PacelineError as error:
        error.node = spec.name
        raise


async def _connect_embedded(embedded: EmbeddedNode) -> asyncssh.SSHClientConnection:
    options: dict[str, Any] = {"config": [], "agent_path": None, "client_keys": [embedded.client_key], "username": "paceline"}
    known: Any = ([embedded.host_key.convert_to_public()], [], [])
    return await _translated("127.0.0.1", lambda: _connect("127.0.0.1", embedded.port, known_hosts=known, **options))


async def _connect_hop(hop: _Hop, tunnel: asyncssh.SSHClientConnection | None, jumps_left: int) -> asyncssh.SSHClientConnection:
    """Connect to one machine, through those before it; each is verified as the node itself is."""
    if jumps_left < 0:
        raise NodeRefused(f"more than {MAX_JUMPS} jump hosts on the way to {hop.host}", hint="look for a circle of ProxyJump")
    config = await _translated(hop.host, lambda: _read_config(hop))
    said = {name: getattr(hop, name) for name in _PLACES}
    for name, option in (("port", "Port"), ("user", "User"), ("key", "IdentityFile"), ("jump", "ProxyJump")):
        if name in hop.inherited and config.config.get(option) is not None:
            said[name] = None
    jump = said["jump"] or (config.tunnel if tunnel is None else None)
    if tunnel is None and isinstance(jump, str) and jump.lower() != "none":
        for step in jump.split(","):
            tunnel = await _connect_hop(_parse_jump(step), tunnel, jumps_left - 1)
    trust = _Trust(hop.host_key, _known_files(config, hop))
    options: dict[str, Any] = {"client_factory": lambda: trust, "known_hosts": trust.match, "tunnel": tunnel}
    if said["user"] is not None:
        options["username"] = said["user"]
    if said["key"] is not None:
        options["client_keys"] = [str(Path(said["key"]).expanduser())]
    if hop.host_key is not None:
        options["server_host_key_algs"] = _HOST_KEY_KINDS
    port = () if said["port"] is None else said["port"]
    try:
        connection = await _translated(hop.host, lambda: _connect(hop.host, port, **options))
    except BaseException as error:
        if tunnel is not None:
            tunnel.abort()
        if trust.refusal is not None and isinstance(error, NodeRefused):
            raise NodeRefused(trust.refusal[0], hint=trust.refusal[1]) from None
        raise
    if tunnel is not None:
        connection.set_tunnel(tunnel)  # closes with it
    return connection


async def _read_config(hop: _Hop) -> asyncssh.SSHClientConnectionOptions:
    """What ~/.ssh/config says about a host; in a thread, for ``Match exec`` runs commands."""
    user = () if hop.user is None or "user" in hop.inherited else hop.user
    options: asyncssh.SSHClientConnectionOptions = await asyncssh.SSHClientConnectionOptions.construct(
        config=(), host=hop.host, username=user, client_keys=None
    )
    return options


async def _connect(host: str, port: Any, **options: Any) -> asyncssh.SSHClientConnection:
    return await asyncssh.connect(
        host,
        port,
        connect_timeout=CONNECT_TIMEOUT,
        login_timeout=LOGIN_TIMEOUT,
        keepalive_interval=KEEPALIVE_INTERVAL,
        keepalive_count_max=KEEPALIVE_COUNT,
        utf8_decode_errors="backslashreplace",
        **options,
    )


def _known_files(config: asyncssh.SSHClientConnectionOptions, hop: _Hop) -> list[str]:
    if hop.host_key is None and config.known_hosts is None:
        raise NodeRefused(
            f"~/.ssh/config switches host key checks off for {hop.host} (UserKnownHostsFile none)",
            hint="remove that line, or pin host_key in nodes.toml",
        )
    named: Any = config.known_hosts or ()  # a list of file names: it can only come from the configuration
    configured = [os.path.expanduser(name) for name in named]
    files = configured or [os.path.expanduser("~/.ssh/known_hosts"), "/etc/ssh/ssh_known_hosts"]
    return [name for name in files if os.access(name, os.R_OK)]


def _parse_jump(text: str) -> _Hop:
    """``user@host:port``, ``host``, ``[ipv6]:port``."""
    user, _, place = text.strip().rpartition("@")
    host, _, port = place.rpartition(":") if place.count(":") == 1 or "]:" in place else (place, "", "")
    if not host or host.startswith("-") or (port and not port.isdigit()):
        raise NodeRefused(f"not a jump host: {text!r}", hint="expected user@host:port")
    return _Hop(host.strip("[]"), int(port) if port else None, user or None)


async def _translated(host: str, attempt: Callable[[], Awaitable[_T]]) -> _T:
    """Await an attempt; what goes wrong in it becomes one of our errors."""
    try:
        return await attempt()
    except asyncssh.HostKeyNotVerifiable as error:
        raise NodeRefused(f"the host key of {host} was refused: {error.reason}", hint="see known_hosts") from None
    except asyncssh.PermissionDenied as error:
        raise NodeRefused(
            f"authentication at {host} failed: {error.reason}",
            hint="check user and key in nodes.toml; a key with a passphrase belongs into ssh-agent (ssh-add)",
        ) from None
    except (asyncssh.KeyEncryptionError, asyncssh.KeyImportError) as error:
        raise _unreadable(host, error) from None
    except asyncssh.ConfigParseError as error:
        raise NodeRefused(f"~/.ssh/config: {error}", hint="ssh -G HOST shows what is wrong") from None
    except TimeoutError:
        raise NodeUnreachable(
            f"{host} does not answer within {CONNECT_TIMEOUT:.0f} s", hint="is it up, and the address right?"
        ) from None
    except asyncssh.Error as error:
        raise NodeUnreachable(f"{host}: {error.reason or type(error).__name__}") from None
    except OSError as error:
        if error.filename is not None:  # a file of ours, not the network
            raise _unreadable(host, error) from None
        raise NodeUnreachable(f"{host}: {error.strerror or error}", hint="is it up, and the address right?") from None
    except ValueError as error:  # asyncssh's word for a broken known_hosts or an impossible setting
        raise NodeRefused(f"{host}: {error}", hint="check known_hosts and ~/.ssh/config") from None


def _unreadable(host: str, error: Exception) -> NodeRefused:
    return NodeRefused(f"the key for {host} cannot be read: {error}", hint="check key in nodes.toml; ssh-add unlocks a passphrase")
