"""Host keys: whether the machine that answers is the intended one, by the pin of nodes.toml or else by known_hosts.

A key is looked up under the configured name, never under the address that DNS returned. Changed and revoked keys are always
refused. A person is asked only about a host of which no key is known.
"""

from __future__ import annotations

import base64
import fcntl
import hmac
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from ..errors import NodeRefused
from .config import HostSettings
from .openssh.known_hosts import KnownHost, KnownHosts, KnownHostsError, RevokedKeys, read_known_hosts, read_revoked_keys

HOST_KEY_ALGORITHMS: dict[str, tuple[str, ...]] = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}
"""Signature algorithms of each type of host key, in the order of preference."""
_CERTIFICATE_ALGORITHMS = tuple(
    f"{algorithm}-cert-v01@openssh.com" for algorithms in HOST_KEY_ALGORITHMS.values() for algorithm in algorithms
)
MARKERS = ("", "cert-authority", "revoked")
_CHECK_FINGERPRINT = "this may be an attack: compare the fingerprint on the machine itself"


@dataclass(frozen=True)
class Trusted:
    """The key is the pinned one."""


@dataclass(frozen=True)
class Unknown:
    """No key of this host is known. A person may confirm the key."""

    host: str
    key: asyncssh.SSHKey


@dataclass(frozen=True)
class Changed:
    """Other keys of this host are known."""

    host: str
    known_hosts_name: str
    """As ``ssh-keygen -R`` takes it."""
    key: asyncssh.SSHKey


@dataclass(frozen=True)
class NotPinned:
    """No key that the host has shown so far is the pinned one."""

    host: str
    pin: str
    shown: tuple[asyncssh.SSHKey, ...]
    """In the order of the attempts; the newest is last."""

    @property
    def has_new_type(self) -> bool:
        """Whether the newest key is the first of its type, so that the host may have keys of further types."""
        *earlier, newest = self.shown
        return all(key.get_algorithm() != newest.get_algorithm() for key in earlier)


@dataclass(frozen=True)
class Rejected:
    """asyncssh itself refused the key: it is revoked, or its certificate is not valid."""

    host: str
    reason: str


Untrusted = Unknown | Changed | NotPinned | Rejected
HostKeyVerdict = Trusted | Untrusted


@dataclass(frozen=True)
class HostKeys:
    """What is known about the keys of one host, and the verdict on a key that it shows."""

    host: str
    known_hosts_name: str
    pin: str | None
    keys: tuple[asyncssh.SSHKey, ...]
    authorities: tuple[asyncssh.SSHKey, ...]
    revoked: tuple[asyncssh.SSHKey, ...]
    is_known: bool
    """Whether any key of the host is known."""
    shown: tuple[asyncssh.SSHKey, ...] = ()
    """Keys that the host has shown and that are not the pinned one: it is asked for other types first."""
    revoked_keys: RevokedKeys = field(default_factory=RevokedKeys)
    """Those of RevokedHostKeys, for every host."""

    @classmethod
    def read(
        cls, host: str, settings: HostSettings, port: int, pin: str | None, shown: tuple[asyncssh.SSHKey, ...] = ()
    ) -> HostKeys:
        """Look a host up in known_hosts. With a pin, known keys and authorities do not count; revocations always do.

        Raises NodeRefused when a known_hosts file cannot be read.
        """
        name = settings.known_hosts_name
        quoted = f"'[{name}]:{port}'" if port != asyncssh.DEFAULT_PORT else name
        keys, authorities, revoked, is_known = _look_up(settings, port)
        revoked_keys = _read_revoked(settings)
        if pin is not None:
            keys, authorities, is_known = [], [], True
        if revoked_keys.has_certificates:  # which of them is not read: none is trusted
            authorities = []
        trusted = [key for key in keys if not revoked_keys.holds(key)]
        return cls(host, quoted, pin, tuple(trusted), tuple(authorities), tuple(revoked), is_known, shown, revoked_keys)

    @property
    def known_hosts(self) -> tuple[Sequence[asyncssh.SSHKey], Sequence[asyncssh.SSHKey], Sequence[asyncssh.SSHKey]]:
        """Trusted keys, trusted authorities and revoked keys, as asyncssh takes them. It asks ``verdict`` about all other keys."""
        return list(self.keys), list(self.authorities), list(self.revoked)

    @property
    def algorithms(self) -> list[str]:
        """Algorithms to request: first those of known keys, then all others, so that a changed key shows its fingerprint."""
        shown = {key.get_algorithm() for key in self.shown}
        known = {key.get_algorithm() for key in self.keys}
        types = sorted(HOST_KEY_ALGORITHMS, key=lambda name: (name in shown, name not in known))
        plain = [algorithm for name in types for algorithm in HOST_KEY_ALGORITHMS[name]]
        return [*_CERTIFICATE_ALGORITHMS, *plain] if self.authorities else plain

    def verdict(self, key: asyncssh.SSHKey) -> HostKeyVerdict:
        """The verdict on a key that known_hosts neither lists nor revokes."""
        if self.revoked_keys.holds(key):
            return Rejected(self.host, "it is revoked (RevokedHostKeys)")
        if self.pin is not None:
            is_pinned = hmac.compare_digest(key.get_fingerprint(), self.pin)
            return Trusted() if is_pinned else NotPinned(self.host, self.pin, (*self.shown, key))
        return Changed(self.host, self.known_hosts_name, key) if self.is_known else Unknown(self.host, key)


def refusal(verdict: Untrusted) -> NodeRefused:
    """The error for a key that is not trusted, with its fingerprint."""
    match verdict:
        case NotPinned():
            shown = " or ".join(dict.fromkeys(key.get_fingerprint() for key in verdict.shown))
            reason = f"the host key of {verdict.host} is {shown}, but nodes.toml pins {verdict.pin}"
            return NodeRefused(reason, hint=f"{_CHECK_FINGERPRINT} before you change the pin")
        case Changed():
            reason = f"the host key of {verdict.host} has CHANGED: it is now {verdict.key.get_fingerprint()}"
            return NodeRefused(reason, hint=f"{_CHECK_FINGERPRINT}, then ssh-keygen -R {verdict.known_hosts_name}")
        case Unknown():
            reason = f"the host key of {verdict.host} is unknown: {verdict.key.get_fingerprint()}"
            hint = "compare the fingerprint, then put it into nodes.toml as host_key, or connect once with ssh"
            return NodeRefused(reason, hint=hint)
        case Rejected():
            return NodeRefused(f"the host key of {verdict.host} was refused: {verdict.reason}", hint="see known_hosts")


def add_known_host(settings: HostSettings, port: int, key: asyncssh.SSHKey) -> None:
    """Append a key to the user's known_hosts in the format of ssh, unless it is listed already. Raises NodeRefused."""
    path = Path(settings.known_hosts_files[0])
    try:
        if key in _look_up(settings, port)[0]:
            return
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            separator = "" if size == 0 or os.pread(descriptor, 1, size - 1) == b"\n" else "\n"
            line = f"{separator}{_known_hosts_name(settings, port)} {key.export_public_key().decode().strip()}\n".encode()
            if os.write(descriptor, line) != len(line):
                os.ftruncate(descriptor, size)
                raise OSError(0, "no space left")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise NodeRefused(f"cannot add to {path}: {error.strerror}", hint="pin host_key in nodes.toml instead") from None


def _known_hosts_name(settings: HostSettings, port: int) -> str:
    """The host name as ssh writes it into known_hosts."""
    name = settings.known_hosts_name
    if not settings.has_alias and port != asyncssh.DEFAULT_PORT:
        name = f"[{name}]:{port}"
    if not settings.has_hashed_hosts:
        return name
    salt = secrets.token_bytes(20)
    digest = hmac.new(salt, name.encode(), "sha1").digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


def _look_up(settings: HostSettings, port: int) -> tuple[list[Any], list[Any], list[Any], bool]:
    """Keys, authorities and revoked keys of a host, and whether any key of it is known.

    As in ssh, a key listed for the bare name holds on every port. A different key on a non-standard port is unknown, not changed.
    """
    known = _read_known_hosts(settings)
    name = settings.known_hosts_name
    keys, authorities, revoked = _by_marker(known.of(name))
    is_known = bool(keys)  # as for ssh, an authority does not make a plain key a changed one
    if not settings.has_alias and port != asyncssh.DEFAULT_PORT:
        port_keys, port_authorities, port_revoked = _by_marker(known.of(f"[{name}]:{port}"))
        revoked = [*revoked, *port_revoked]
        authorities = port_authorities or authorities
        is_known = bool(port_keys)
        keys = port_keys or keys
    return keys, authorities, revoked, is_known


def _by_marker(lines: list[KnownHost]) -> tuple[list[asyncssh.SSHKey], list[asyncssh.SSHKey], list[asyncssh.SSHKey]]:
    """Keys, authorities and revoked keys of these lines."""
    keys, authorities, revoked = ([line.key for line in lines if line.marker == marker] for marker in MARKERS)
    return keys, authorities, revoked


def _read_known_hosts(settings: HostSettings) -> KnownHosts:
    try:
        return read_known_hosts(settings.known_hosts_files)
    except (OSError, KnownHostsError) as error:
        raise NodeRefused(f"known_hosts cannot be read: {error}", hint="repair that line or file") from None


def _read_revoked(settings: HostSettings) -> RevokedKeys:
    if settings.revoked_keys_file is None:
        return RevokedKeys()
    try:
        return read_revoked_keys(settings.revoked_keys_file)
    except KnownHostsError as error:
        raise NodeRefused(f"RevokedHostKeys cannot be read: {error}", hint="repair that line or file") from None


def known_hosts_warnings(settings: HostSettings) -> tuple[str, ...]:
    """Lines of known_hosts that are skipped, as ssh skips them. Raises NodeRefused."""
    return tuple(f"{place}: not a line of known_hosts: skipped" for place in _read_known_hosts(settings).skipped)
