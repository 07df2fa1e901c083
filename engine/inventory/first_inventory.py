"""A first nodes.toml: one table a machine, with its name only, because ~/.ssh/config says the rest. Never over a file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from ..errors import StorageFailed, UsageError

_HEAD = """# Host, port, user and key of each machine are read from ~/.ssh/config.
# [defaults]
# python = "~/venv/bin/python"     # 3.10 or newer, with torch and numpy
"""
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


def first_inventory(hosts: Iterable[str]) -> str:
    """The text of a nodes.toml for hosts by their names in ~/.ssh/config. A name that no node may have stands as ``host``."""
    tables, taken = [], set()
    for host in hosts:
        name = stem = _NOT_IN_NAMES.sub("-", host).lstrip("._-") or "node"
        number = 2
        while name in taken:
            name, number = f"{stem}-{number}", number + 1
        taken.add(name)
        alias = f'host = "{_quoted(host)}"\n' if name != host else ""
        tables.append(f'\n[[node]]\nname = "{name}"\n{alias}')
    return _HEAD + "".join(tables)


def _quoted(text: str) -> str:
    """A text as TOML has it between quotes."""
    return "".join(f"\\u{ord(sign):04x}" if sign in '"\\' or not sign.isprintable() else sign for sign in text)


def write_first_inventory(path: Path, text: str) -> None:
    """Write a nodes.toml where none is, for its owner only. Raises UsageError for an existing one, or StorageFailed."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path} exists already and is left as it is", hint="move it away first") from None
    except OSError as error:
        raise StorageFailed(f"cannot write {path}: {error.strerror}") from None
