"""Reads known_hosts and revoked keys as OpenSSH does (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT). Names count in lower case.

A line that cannot be read is skipped and named, as ssh skips it; only a revocation that cannot be read refuses every host.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import hmac
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from ...protocol.regular_files import read_regular
from .config_lines import WHITESPACE, matches_list

MAX_KNOWN_HOSTS_BYTES = 64 << 20
KRL_MAGIC = b"SSHKRL\n\0"
"""First bytes of a key revocation list in OpenSSH's format (PROTOCOL.krl)."""
_KRL_CERTIFICATES, _KRL_KEYS, _KRL_SHA1, _KRL_SHA256 = 1, 2, 3, 5


class KnownHostsError(ValueError):
    """What would be needed to decide about trust cannot be read; the text names file and line."""


@dataclass(frozen=True)
class KnownHost:
    """One line."""

    marker: str
    """Empty, ``cert-authority`` or ``revoked``."""
    hosts: str
    """Patterns, or a hashed name."""
    key: asyncssh.SSHKey

    def matches(self, name: str) -> bool:
        """Whether the line is about a name, given in lower case, with its port where that is not 22."""
        if not self.hosts.startswith("|"):
            return matches_list(name, self.hosts, is_lowered=True)
        _, _, salt, digest = self.hosts.split("|")
        computed = hmac.new(base64.b64decode(salt), name.encode("utf-8", "surrogateescape"), "sha1").digest()
        return hmac.compare_digest(computed, base64.b64decode(digest))


@dataclass(frozen=True)
class KnownHosts:
    """The lines of several files, and those that were skipped."""

    exact: dict[str, tuple[KnownHost, ...]]
    """Lines with plain names only, by name: most are, and a thousand hosts look up a thousand lines."""
    others: tuple[KnownHost, ...]
    skipped: tuple[str, ...]
    """File and line of those that cannot be read."""

    def of(self, name: str) -> list[KnownHost]:
        """The lines about a name in lower case."""
        return [*self.exact.get(name, ()), *(line for line in self.others if line.matches(name))]


def read_known_hosts(names: Sequence[str]) -> KnownHosts:
    """Read files; a missing one is empty. Raises KnownHostsError and OSError."""
    return _read(tuple(_version(name) for name in names if os.path.exists(name)))


def _version(name: str) -> tuple[str, int, int, int]:
    """What changes whenever the file does."""
    status = os.stat(name)
    return name, status.st_ino, status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=4)
def _read(versions: tuple[tuple[str, int, int, int], ...]) -> KnownHosts:
    """Cached: many nodes share the files, and a thousand lines take about ten milliseconds."""
    exact: dict[str, tuple[KnownHost, ...]] = {}
    others: list[KnownHost] = []
    skipped: list[str] = []
    for name, *_ in versions:
        text = read_regular_text(name)
        for number, line in enumerate(text.split("\n"), 1):
            line = line.strip(WHITESPACE)
            if not line or line.startswith("#"):
                continue
            known = _parse(line)
            if known is None:
                if line.lower().startswith("@revoked"):
                    raise KnownHostsError(f"{name}:{number}: this revocation cannot be read")
                skipped.append(f"{name}:{number}")
            elif any(char in known.hosts for char in "*?|!"):
                others.append(known)
            else:
                for host in set(known.hosts.lower().split(",")):
                    exact[host] = (*exact.get(host, ()), known)
    return KnownHosts(exact, tuple(others), tuple(skipped))


def read_regular_text(name: str) -> str:
    """The text of a file; other bytes than UTF-8 stand as surrogates. Raises OSError."""
    return read_regular(Path(name), MAX_KNOWN_HOSTS_BYTES).decode("utf-8", "surrogateescape")


def _parse(line: str) -> KnownHost | None:
    """One line; None for a line that cannot be read, or whose kind of key is not supported."""
    marker, rest = "", line
    if line.startswith("@"):
        marker, rest = [*line[1:].split(None, 1), "", ""][:2]
        if marker not in ("cert-authority", "revoked"):
            return None
    parts = rest.split(None, 1)
    if len(parts) != 2:
        return None
    hosts, data = parts
    if hosts.startswith("|"):
        try:
            _, kind, salt, digest = hosts.split("|")
            if (
                kind != "1"
                or len(base64.b64decode(salt, validate=True)) != 20
                or len(base64.b64decode(digest, validate=True)) != 20
            ):
                return None
        except (ValueError, binascii.Error):
            return None
    try:
        return KnownHost(marker, hosts, asyncssh.import_public_key(" ".join(data.split()[:2])))
    except (asyncssh.KeyImportError, ValueError, UnicodeError):
        return None


@dataclass(frozen=True)
class RevokedKeys:
    """The keys of a file of RevokedHostKeys."""

    public_data: frozenset[bytes] = frozenset()
    sha1: frozenset[bytes] = frozenset()
    sha256: frozenset[bytes] = frozenset()
    has_certificates: bool = False
    """Whether it revokes certificates, which are not checked here: then no certificate of a host is accepted."""

    def holds(self, key: asyncssh.SSHKey) -> bool:
        """Whether a key is revoked."""
        data = key.public_data
        return data in self.public_data or hashlib.sha1(data).digest() in self.sha1 or hashlib.sha256(data).digest() in self.sha256


def read_revoked_keys(name: str) -> RevokedKeys:
    """Read a list of public keys, one a line, or a KRL. Raises KnownHostsError: then every key counts as revoked, as in ssh."""
    try:
        data = read_regular(Path(name), MAX_KNOWN_HOSTS_BYTES)
    except OSError as error:
        raise KnownHostsError(f"{name}: {error.strerror}") from None
    if data.startswith(KRL_MAGIC):
        try:
            return _parse_krl(data)
        except (ValueError, struct.error):
            raise KnownHostsError(f"{name}: this key revocation list cannot be read") from None
    keys = set()
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), 1):
        line = line.strip(WHITESPACE)
        if line and not line.startswith("#"):
            try:
                keys.add(asyncssh.import_public_key(" ".join(line.split()[:2])).public_data)
            except (asyncssh.KeyImportError, ValueError, UnicodeError):
                raise KnownHostsError(f"{name}:{number}: this key cannot be read") from None
    return RevokedKeys(frozenset(keys))


def _parse_krl(data: bytes) -> RevokedKeys:
    """OpenSSH's PROTOCOL.krl: a header, then sections of a type and a string. Raises ValueError and struct.error."""
    version, _, _, _ = struct.unpack_from(">IQQQ", data, len(KRL_MAGIC))
    if version != 1:
        raise ValueError("unknown version")
    position = len(KRL_MAGIC) + 28
    for _ in range(2):  # reserved, comment
        _, position = _string(data, position)
    found: dict[int, set[bytes]] = {kind: set() for kind in (_KRL_KEYS, _KRL_SHA1, _KRL_SHA256)}
    has_certificates = False
    while position < len(data):
        kind = data[position]
        section, position = _string(data, position + 1)
        if kind == _KRL_CERTIFICATES:
            has_certificates = True
        elif kind in found:
            found[kind] |= set(_strings(section))
    keys, sha1, sha256 = (frozenset(found[kind]) for kind in (_KRL_KEYS, _KRL_SHA1, _KRL_SHA256))
    return RevokedKeys(keys, sha1, sha256, has_certificates)


def _strings(section: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(section):
        text, position = _string(section, position)
        yield text


def _string(data: bytes, position: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from(">I", data, position)
    end = position + 4 + length
    if end > len(data):
        raise ValueError("cut off")
    return data[position + 4 : end], end
