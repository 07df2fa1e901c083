"""TOML that a person wrote, key by key: whatever is wrong is refused with file, line, key and what was expected.

Every key is in a table with the function that reads its value, so nothing unknown passes and nothing is read twice.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from ..errors import ConfigurationError
from .toml_positions import Key, line_of
from .values import InvalidValue, Readers

SIZE_LIMIT = 1 << 20
"""Bytes; a nodes.toml with a thousand nodes has a tenth of it."""


class TomlFile:
    """One file and its text, for whoever takes values out of it. A key is where a value stands, such as ("node", 1, "port")."""

    def __init__(self, path: Path, name: str, hint: str) -> None:
        """``name``: what such a file is called; ``hint``: what to do where it cannot be read. Raises ConfigurationError."""
        self.path, self.name = path, name
        self._text = self._load(hint)

    def load(self) -> dict[str, Any]:
        """The whole file. Raises ConfigurationError where it is no TOML."""
        try:
            return tomllib.loads(self._text)
        except (ValueError, RecursionError, OverflowError) as error:
            self._refuse_syntax(error)

    def values(
        self, key: Key, table: Mapping[str, Any], readers: Readers, what: str, nested: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """The values of a table by their readers. ``nested``: keys that somebody else reads."""
        self.check_keys(key, table, (*readers, *nested), what)
        values = {}
        for name, value in table.items():
            if name not in readers:
                continue
            try:
                values[name] = readers[name](value)
            except InvalidValue as wrong:
                self.refuse((*key, name), f"{wrong}, got {_show(value)}")
        return values

    def check_keys(self, key: Key, table: Mapping[str, Any], known: tuple[str, ...], what: str) -> None:
        """Refuse a key that nobody knows. ``what``: whose key it would be."""
        for name in table:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                meant = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(sorted(known))}"
                self.refuse((*key, name), f"unknown key of {what}: {meant}")

    def table(self, key: Key, value: Any) -> Mapping[str, Any]:
        """A value that has keys of its own."""
        if not isinstance(value, dict):
            self.refuse(key, f"expected a table, got {_show(value)}")
        return value

    def tables(self, key: Key, value: Any) -> list[Any]:
        """A value that is several tables."""
        if not isinstance(value, list):
            self.refuse(key, f"expected a list of tables, got {_show(value)}")
        return value

    def refuse(self, key: Key, expected: str) -> NoReturn:
        """Raise ConfigurationError: one line with file, line, key and what was expected."""
        name = next((str(part) for part in reversed(key) if isinstance(part, str)), "")
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            name = repr(name)
        raise ConfigurationError(f"{self.path}:{line_of(self._text, key)}: {name}: {expected}")

    def _load(self, hint: str) -> str:
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                data = file.read(SIZE_LIMIT + 1)
        except OSError as error:
            raise ConfigurationError(f"{self.path}: {error.strerror}", hint=hint) from None
        self._check_owner(status)
        if len(data) > SIZE_LIMIT:
            raise ConfigurationError(f"{self.path}: larger than {SIZE_LIMIT >> 20} MiB: not {self.name}")
        try:
            return data.decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            raise ConfigurationError(f"{self.path}:{line}: expected UTF-8 text, got byte 0x{data[error.start]:02x}") from None

    def _check_owner(self, status: os.stat_result) -> None:
        """The file says which programs run where: what a stranger can write is not read.

        A group may write it, as git checks it out under umask 002. Root reads everybody's, as in containers.
        """
        if stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IWOTH:
            raise ConfigurationError(f"{self.path}: every user of this machine can change it", hint=f"chmod o-w {self.path}")
        if status.st_uid not in (0, os.geteuid()) and os.geteuid() != 0:
            raise ConfigurationError(f"{self.path}: belongs to another user", hint="copy it, and name the copy")

    def _refuse_syntax(self, error: Exception) -> NoReturn:
        if isinstance(error, RecursionError):
            lines = self._text.split("\n")
            line = max(range(len(lines)), key=lambda number: lines[number].count("[") + lines[number].count("{")) + 1
            raise ConfigurationError(f"{self.path}:{line}: not TOML: nested too deeply") from None
        said = re.sub(r"\s+", " ", str(error))
        found = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", said)
        if found is None:
            raise ConfigurationError(f"{self.path}: not TOML: {said}") from None
        line = int(found[2]) if found[2] else self._text.rstrip().count("\n") + 1
        raise ConfigurationError(f"{self.path}:{line}: not TOML: {found[1]}") from None


def _show(value: Any) -> str:
    """A value as a person wrote it, in one short printable piece."""
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
