"""The hosts that ~/.ssh/config names one by one, for a first nodes.toml. Patterns are left out, and hosts that only hold code."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...protocol.regular_files import read_regular
from .config_file import MAX_CONFIG_BYTES, MAX_INCLUDE_DEPTH
from .config_lines import ConfigError, ConfigLine, config_lines

CODE_HOSTS = ("github.com", "gitlab.com", "bitbucket.org", "codeberg.org", "ssh.dev.azure.com", "git.sr.ht")
_ONE_HOST = re.compile(r"[^\s*?!@:/\[\]-][^\s*?!@:/\[\]]*")
"""A name that is no pattern, and that a nodes.toml can hold."""


@dataclass(frozen=True, slots=True)
class NamedHost:
    """One host of the file."""

    name: str
    """As after ``ssh``."""
    address: str = ""
    """HostName of its block; empty: the name itself, or set elsewhere."""
    user: str = ""
    """User of its block; empty: likewise."""


def named_hosts(config: Path, home: Path) -> tuple[list[NamedHost], int]:
    """The hosts in their order, and how many patterns and code hosts were left out. A missing file has none. Raises ConfigError.

    Includes are followed. ``Match`` blocks name no host.
    """
    found: dict[str, dict[str, str]] = {}
    left_out = 0
    current: list[str] = []
    for line in _lines(config, home, 0):
        match line.keyword:
            case "host":
                words = line.words()
                current = [word for word in words if _ONE_HOST.fullmatch(word) and word.isprintable()]
                left_out += len(words) - len(current)
                for name in current:
                    found.setdefault(name, {})
            case "match":
                current = []
            case "hostname" | "user":
                for name in current:
                    found[name].setdefault(line.keyword, next(iter(line.words()), ""))
    hosts = [NamedHost(name, values.get("hostname", ""), values.get("user", "")) for name, values in found.items()]
    machines = [host for host in hosts if host.user != "git" and not {host.name.lower(), host.address.lower()} & set(CODE_HOSTS)]
    return machines, left_out + len(hosts) - len(machines)


def _lines(path: Path, home: Path, depth: int) -> Iterator[ConfigLine]:
    """The lines of a file and, in their place, of what it includes."""
    if depth > MAX_INCLUDE_DEPTH:
        raise ConfigError(f"{path}: too many recursive configuration includes")
    try:
        text = read_regular(path, MAX_CONFIG_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        return
    except OSError as error:
        if path.is_dir():
            return
        raise ConfigError(f"{path}: {error.strerror}") from None
    for line in config_lines(text, str(path)):
        if line.keyword != "include":
            yield line
            continue
        for pattern in line.words():
            base = home / pattern[2:] if pattern.startswith("~/") else home / ".ssh" / pattern
            for name in sorted(glob.glob(str(base))):
                yield from _lines(Path(name), home, depth + 1)
