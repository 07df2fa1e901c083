"""Whether the machine that answers is the one we mean: host keys against the pin of nodes.toml, else against known_hosts.

A key is looked up by the name it was asked for, never by the address that a name server gave. Changed and revoked keys are refused
whatever a person would say; only a key of a host that nothing is known of may be asked about.
"""

from __future__ import annotations

import base64
import fcntl
import functools
import hmac
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncssh

from ..errors import NodeRefused
from .config import Settings

KINDS: dict[str, tuple[str, ...]] = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}
"""Kinds of host keys and the algorithms that ask for them, in the order in which they are asked for."""
_CERTIFICATES = tuple(f"{algorithm}-cert-v01@openssh.com" for algorithms in KINDS.values() for algorithm in algorithms)
_LOOK = "somebody may be in between: compare the fingerprint on the machine itself"


class HostKeyRefused(NodeRefused):
    """The machine that answered is not the one we know. Nobody has logged in."""


class HostKeyCheck:
    """The verdict on the one key that one connection is shown."""

    def __init__(self, host: str, settings: Settings, port: int, pin: str | None, tried: Sequence[asyncssh.SSHKey] = ()) -> None:
        """``tried``: keys that the machine has shown and the pin does not mean; other kinds are asked for before theirs.

        Raises NodeRefused when a file of known keys cannot be read.
        """
        self._host = host
        self._name = f"'[{settings.name}]:{port}'" if port != asyncssh.DEFAULT_PORT else settings.name
        self._pin = pin
        self._tried = list(tried)
        self._keys, self._authorities, self._revoked, self._is_known = _look_up(settings, port)
        if pin is not None:
            self._keys, self._authorities, self._is_known = [], [], True
        self.shown: asyncssh.SSHKey | None = None
        """The key that was not accepted."""

    @property
    def known_hosts(self) -> tuple[list[asyncssh.SSHKey], list[asyncssh.SSHKey], list[asyncssh.SSHKey]]:
        """Trusted keys, trusted authorities and revoked keys. What is in none of them comes to ``judge``."""
        return self._keys, self._authorities, self._revoked

    @property
    def is_unknown(self) -> bool:
        """Whether nothing is known of this host, so that a person may decide."""
        return self.shown is not None and not self._is_known

    @property
    def has_shown_all(self) -> bool:
        """Whether the machine, asked for other kinds first, has shown a key of a kind that it had shown before."""
        return self.shown is not None and any(key.get_algorithm() == self.shown.get_algorithm() for key in self._tried)

    @property
    def algorithms(self) -> list[str]:
        """What to ask the machine for: kinds we know first, then all others, so that a changed key shows its fingerprint."""
        shown = {key.get_algorithm() for key in self._tried}
        known = {key.get_algorithm() for key in self._keys}
        kinds = sorted(KINDS, key=lambda kind: (kind in shown, kind not in known))
        plain = [algorithm for kind in kinds for algorithm in KINDS[kind]]
        return [*_CERTIFICATES, *plain] if self._authorities else plain

    def judge(self, key: asyncssh.SSHKey) -> bool:
        """Asked for a key that known_hosts neither has nor revokes: whether it is the pinned one."""
        if self._pin is not None and hmac.compare_digest(key.get_fingerprint(), self._pin):
            return True
        self.shown = key
        return False

    def refusal(self) -> NodeRefused:
        """Why the shown key was not accepted, with its fingerprint; HostKeyRefused unless the host is merely unknown."""
        assert self.shown is not None
        fingerprint = self.shown.get_fingerprint()
        if self._pin is not None:
            seen = " or ".join(dict.fromkeys(key.get_fingerprint() for key in (*self._tried, self.shown)))
            reason = f"the host key of {self._host} is {seen}, but nodes.toml pins {self._pin}"
            return HostKeyRefused(reason, hint=f"{_LOOK} before you change the pin")
        if self._is_known:
            reason = f"the host key of {self._host} has CHANGED: it is now {fingerprint}"
            return HostKeyRefused(reason, hint=f"{_LOOK}, then ssh-keygen -R {self._name}")
        reason = f"the host key of {self._host} is unknown: {fingerprint}"
        return NodeRefused(
            reason, hint="compare the fingerprint, then put it into nodes.toml as host_key, or connect once with ssh"
        )


def add_known_host(settings: Settings, port: int, key: asyncssh.SSHKey) -> None:
    """Append a key to the user's known_hosts as ssh would, unless it is there by now. Raises NodeRefused."""
    path = Path(settings.known_files[0])
    try:
        if key in _look_up(settings, port)[0]:
            return
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            size = os.fstat(handle).st_size
            begin = "" if size == 0 or os.pread(handle, 1, size - 1) == b"\n" else "\n"
            line = f"{begin}{_written_name(settings, port)} {key.export_public_key().decode().strip()}\n".encode()
            if os.write(handle, line) != len(line):
                os.ftruncate(handle, size)
                raise OSError(0, "no space left")
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise NodeRefused(f"cannot add to {path}: {error.strerror}", hint="pin host_key in nodes.toml instead") from None


def _written_name(settings: Settings, port: int) -> str:
    """How ssh writes the name of a host into known_hosts."""
    name = settings.name.lower()
    if not settings.has_alias and port != asyncssh.DEFAULT_PORT:
        name = f"[{name}]:{port}"
    if not settings.has_hashed_names:
        return name
    salt = secrets.token_bytes(20)
    hidden = hmac.new(salt, name.encode(), "sha1").digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(hidden).decode()}"


def _look_up(settings: Settings, port: int) -> tuple[list[Any], list[Any], list[Any], bool]:
    """Keys, authorities and revoked keys of a host, and whether any key of it is known.

    As with ssh, a key known for the name alone is good for every port of it; but when another port shows another key, that one is
    unknown and not changed.
    """
    try:
        known = _read(tuple(_version(name) for name in settings.known_files if os.path.exists(name)))
    except (OSError, ValueError) as error:  # what cannot be read might hold the key, or its revocation
        raise NodeRefused(f"known_hosts cannot be read: {error}", hint="repair that line or file") from None
    name = settings.name.lower()
    keys, authorities, revoked, *_ = known.match(name, "", None)
    is_known = bool(keys or authorities)
    if not settings.has_alias and port != asyncssh.DEFAULT_PORT:
        here, authorities_here, revoked_here, *_ = known.match(f"[{name}]:{port}", "", None)
        revoked = [*revoked, *revoked_here]
        is_known = bool(here or authorities_here)
        if is_known:
            keys, authorities = here, authorities_here
    return list(keys), list(authorities), list(revoked), is_known


def _version(name: str) -> tuple[str, int, int, int]:
    found = os.stat(name)
    return name, found.st_ino, found.st_size, found.st_mtime_ns


@functools.lru_cache(maxsize=4)
def _read(versions: tuple[tuple[str, int, int, int], ...]) -> asyncssh.SSHKnownHosts:
    """The files in these versions; kept, for many nodes share them, and a thousand lines take some ten milliseconds."""
    return asyncssh.read_known_hosts([name for name, *_ in versions])
