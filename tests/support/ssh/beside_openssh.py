"""What OpenSSH's client makes of a configuration or a known_hosts file, and what we make of the same files."""

from __future__ import annotations

import asyncio
import base64
import hmac
import os
import random
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
from paceline.engine.errors import NodeRefused
from paceline.engine.ssh.config import read_config
from paceline.engine.ssh.host_keys import Changed, HostKeys, Unknown
from paceline.engine.ssh.openssh.config_file import HostConfig, HostQuery, local_user, read_host
from paceline.engine.ssh.openssh.config_lines import ConfigError

from .config_samples import ConfigSample

DEFAULTS = {
    "identitiesonly": "no",
    "stricthostkeychecking": "ask",
    "hashknownhosts": "no",
    "pubkeyauthentication": "true",
    "addressfamily": "any",
    "connecttimeout": "none",
    "serveraliveinterval": "0",
    "port": "22",
}
"""What ``ssh -G`` prints for an option that is not set."""
COMPARED = (*DEFAULTS, "hostkeyalias", "revokedhostkeys", "userknownhostsfile", "globalknownhostsfile")
REASONS = {
    "a comment behind ProxyJump": "ssh 9.2 takes 'none # note' for a jump host called none; we leave the comment out",
    "a jump host that jumps through itself": "ssh refuses it when it reads the file; we refuse it when the route is built",
    "revoked for the bare name": "ssh asks for it only where no key is known for the port; we let it count for every port",
}
"""Differences that stay, and why."""


def ask_ssh(sample: ConfigSample) -> dict[str, list[str]] | None:
    """What ``ssh -G`` prints, by option; None: ssh refuses the configuration."""
    command = ["ssh", "-G", "-F", str(sample.path), sample.host]
    run = subprocess.run(command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, check=False)
    if run.returncode:
        return None
    options: dict[str, list[str]] = {}
    for line in run.stdout.splitlines():
        name, _, value = line.partition(" ")
        options.setdefault(name, []).append(value)
    return options


def differences(sample: ConfigSample) -> list[str]:
    """Options in which our reading differs from that of ssh, with both values, without those of ``REASONS``."""
    theirs = ask_ssh(sample)
    try:
        ours = read_host(HostQuery(sample.host), sample.directory.parent)
    except ConfigError as error:
        return [] if theirs is None else [f"only we refuse it: {error}"]
    if theirs is None:
        return [] if re.search(r"(?i)proxyjump", _all_text(sample)) else ["only ssh refuses it"]
    found = []
    for name, value in _as_ssh_prints(ours, theirs).items():
        if name == "pubkeyauthentication" and theirs.get(name, [""])[0] in ("host-bound", "unbound"):
            theirs[name] = ["true"]
        if value != theirs.get(name) and not (name == "proxyjump" and theirs.get(name) == ["none"]):
            found.append(f"{name}: ssh {theirs.get(name)}, we {value}")
    return found


def _all_text(sample: ConfigSample) -> str:
    return "".join(path.read_text("latin-1") for path in sample.directory.rglob("*") if path.is_file())


def _as_ssh_prints(ours: HostConfig, theirs: dict[str, list[str]]) -> dict[str, list[str] | None]:
    """Our options in the words of ``ssh -G``."""
    values: dict[str, list[str] | None] = {"hostname": [ours.host], "user": [str(ours.get("user") or local_user())]}
    for name in COMPARED:
        value = ours.get(name, DEFAULTS.get(name))
        if value is None and name.endswith("knownhostsfile"):
            continue
        values[name] = None if value is None else [_text(name, value)]
    for name in ("proxyjump", "proxycommand"):
        proxy = str(ours.get(name, "none")).removeprefix("ssh://").replace(",ssh://", ",")
        values[name] = None if proxy.lower() == "none" else [proxy]
    is_default = theirs.get("identityfile", ["~"])[0].startswith("~")
    values["identityfile"] = ours.get("identityfile", theirs.get("identityfile") if is_default else None)
    values["certificatefile"] = ours.get("certificatefile")
    return values


def _text(name: str, value: Any) -> str:
    if isinstance(value, list):
        return " ".join(value)
    if isinstance(value, bool):
        words = ("true", "false") if name == "pubkeyauthentication" else ("yes", "no")
        return words[0] if value else words[1]
    if name == "stricthostkeychecking":
        return {"yes": "true", "no": "false", "off": "false"}.get(str(value), str(value))
    return str(value).lower() if name == "hostkeyalias" else str(value)


@dataclass
class TrustSample:
    """A known_hosts file, perhaps with revoked keys, for a host whose key is ``host_key``; drawn by a seed."""

    seed: int
    home: Path
    port: int
    host_key: asyncssh.SSHKey
    random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        draw = self.random = random.Random(self.seed)
        ssh = self.home / ".ssh"
        ssh.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.name = draw.choice(("127.0.0.1", "LocalHost", "localhost"))
        self.other_key = asyncssh.generate_private_key("ssh-ed25519")
        lines = [self._line() for _ in range(draw.randrange(0, 6))]
        (ssh / "known_hosts").write_bytes("\n".join(lines).encode("latin-1") + draw.choice((b"", b"\n")))
        (ssh / "global").write_text("\n".join(self._line() for _ in range(draw.randrange(0, 2))))
        config = f"Host atlas\n  HostName {self.name}\n  Port {self.port}\n  UserKnownHostsFile {ssh}/known_hosts\n"
        config += f"  GlobalKnownHostsFile {ssh}/global\n  UpdateHostKeys no\n"
        if draw.random() < 0.2:
            config += f"  HostKeyAlias {draw.choice(('alias', 'Alias', '127.0.0.1'))}\n"
        if draw.random() < 0.3:
            config += f"  RevokedHostKeys {self._revoked(ssh / 'revoked')}\n"
        (ssh / "config").write_text(config)
        (ssh / "config").chmod(0o600)

    def _revoked(self, path: Path) -> Path:
        draw = self.random
        key = draw.choice((self.host_key, self.other_key)).export_public_key().decode()
        kind = draw.choice(("list", "krl", "krl of hashes", "missing", "broken"))
        if kind == "list":
            path.write_text(f"# stolen\n{key}")
        elif kind == "broken":
            path.write_text("ssh-ed25519 x\n")
        elif kind != "missing":
            public = path.with_suffix(".pub")
            public.write_text(key if kind == "krl" else f"sha256: {key}")
            subprocess.run(["ssh-keygen", "-q", "-k", "-f", str(path), str(public)], check=True, capture_output=True)
        return path

    def _line(self) -> str:
        draw = self.random
        if draw.random() < 0.15:
            return draw.choice(("", "# caf\xe9", "<<<<<<< HEAD", "=", "@unknown * ssh-ed25519 AAAA", "host", "a ssh-ed25519 AAAA"))
        key = draw.choice((self.host_key, self.host_key, self.other_key)).export_public_key().decode().strip()
        marker = draw.choice(("", "", "", "", "@revoked ", "@cert-authority "))
        return f"{marker}{self._hosts()} {key}{draw.choice(('', ' comment'))}"

    def _hosts(self) -> str:
        draw, port = self.random, self.port
        names = ["127.0.0.1", "localhost", "LocalHost", "alias", "ALIAS", "elsewhere"]
        names += [f"[127.0.0.1]:{port}", f"[LocalHost]:{port}", f"[localhost]:{port}", f"[localhost]:{port + 1}"] * 2
        if draw.random() < 0.2:
            salt = draw.randbytes(20)
            digest = hmac.new(salt, draw.choice(names).lower().encode(), "sha1").digest()
            return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"
        patterns = ["*", f"[*]:{port}", "[127.0.0.?]:*", "!localhost,*", f"!\x5blocalhost]:{port},*", "LOCAL*"]
        return ",".join(draw.choice((*names, *patterns)) for _ in range(draw.choice((1, 1, 2))))

    async def of_ssh(self) -> str:
        """The verdict of ssh: trusted, unknown, changed or revoked."""
        options = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "LogLevel=ERROR"]
        process = await asyncio.create_subprocess_exec(
            *("ssh", "-F", str(self.home / ".ssh" / "config"), *options, "atlas", "true"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "SSH_AUTH_SOCK": ""},
        )
        text = (await process.communicate())[0].decode(errors="replace")
        if "Permission denied" in text:
            return "trusted"
        if "revoked" in text.lower():
            return "revoked"
        if "HAS CHANGED" in text:
            return "changed"
        return "unknown" if "verification failed" in text else text

    async def of_ours(self) -> str:
        """Our verdict on the same key."""
        settings = await read_config("atlas")
        try:
            keys = HostKeys.read("atlas", settings, settings.port or 22, None)
        except NodeRefused as error:
            return "revoked" if "RevokedHostKeys" in error.reason else str(error)
        trusted, _, revoked = keys.known_hosts
        shown = self.host_key.convert_to_public()
        if shown in revoked or keys.revoked_keys.holds(shown):
            return "revoked"
        if shown in trusted:
            return "trusted"
        verdict = keys.verdict(shown)
        return {Changed: "changed", Unknown: "unknown"}.get(type(verdict), repr(verdict))


@asynccontextmanager
async def host(key: asyncssh.SSHKey) -> AsyncIterator[int]:
    """A server with one host key that lets nobody in; gives its port on loopback."""
    acceptor = await asyncssh.listen("127.0.0.1", 0, server_host_keys=[key], config=[])
    try:
        yield acceptor.get_port()
    finally:
        acceptor.close()
        await acceptor.wait_closed()
