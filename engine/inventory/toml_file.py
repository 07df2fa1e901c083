"""A TOML file written by a person, read key by key. An error names file, line, key and the expected value.

Each table of keys maps every known key to the function that reads its value, so an unknown key is always refused.
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
from .toml_positions import KeyPath, line_of
from .values import InvalidValue, Readers

MAX_FILE_BYTES = 1 << 20
"""A nodes.toml with a thousand nodes has a tenth of this size."""


class TomlFile:
    """One file and its text. A key path such as ("node", 1, "port") locates a value."""

    def __init__(self, path: Path, name: str, hint: str) -> None:
        """``name``: what such a file is called. ``hint``: for a file that cannot be opened. Raises ConfigurationError."""
        self.path, self.name = path, name
        self._text = self._load(hint)

    def load(self) -> dict[str, Any]:
        """The parsed document. Raises ConfigurationError for invalid TOML."""
        try:
            return tomllib.loads(self._text)
        except (ValueError, RecursionError, OverflowError) as error:
            self._refuse_syntax(error)

    def read_values(
        self, key: KeyPath, table: Mapping[str, Any], readers: Readers, owner: str, nested: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """The values of a table. ``owner`` of its keys, for errors. ``nested``: keys that the caller reads."""
        self.check_keys(key, table, (*readers, *nested), owner)
        values = {}
        for name, value in table.items():
            if name not in readers:
                continue
            try:
                values[name] = readers[name](value)
            except InvalidValue as error:
                self.refuse((*key, name), f"{error}, got {_show(value)}")
        return values

    def check_keys(self, key: KeyPath, table: Mapping[str, Any], known: tuple[str, ...], owner: str) -> None:
        """Raises ConfigurationError for an unknown key. ``owner`` of the keys, for the error."""
        for name in table:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                suggestion = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(sorted(known))}"
                self.refuse((*key, name), f"unknown key of {owner}: {suggestion}")

    def table(self, key: KeyPath, value: Any) -> Mapping[str, Any]:
        """The value as a table. Raises ConfigurationError."""
        if not isinstance(value, dict):
            self.refuse(key, f"expected a table, got {_show(value)}")
        return value

    def tables(self, key: KeyPath, value: Any) -> list[Any]:
        """The value as a list of tables. Raises ConfigurationError."""
        if not isinstance(value, list):
            self.refuse(key, f"expected a list of tables, got {_show(value)}")
        return value

    def refuse(self, key: KeyPath, expected: str) -> NoReturn:
        """Raise ConfigurationError with file, line, key and expected value."""
        name = next((str(part) for part in reversed(key) if isinstance(part, str)), "")
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            name = repr(name)
        raise ConfigurationError(f"{self.path}:{line_of(self._text, key)}: {name}: {expected}")

    def _load(self, hint: str) -> str:
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                data = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise ConfigurationError(f"{self.path}: {error.strerror}", hint=hint) from None
        self._check_owner(status)
        if len(data) > MAX_FILE_BYTES:
            raise ConfigurationError(f"{self.path}: larger than {MAX_FILE_BYTES >> 20} MiB: not {self.name}")
        try:
            return data.decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            raise ConfigurationError(f"{self.path}:{line}: expected UTF-8 text, got byte 0x{data[error.start]:02x}") from None

    def _check_owner(self, status: os.stat_result) -> None:
        """Raises ConfigurationError where another user can change the file, because it says which programs run where.

        The group may have write access, which git gives under umask 002. Root may read the file of any user, as in containers.
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
        message = re.sub(r"\s+", " ", str(error))
        position = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", message)
        if position is None:
            raise ConfigurationError(f"{self.path}: not TOML: {message}") from None
        line = int(position[2]) if position[2] else self._text.rstrip().count("\n") + 1
        raise ConfigurationError(f"{self.path}:{line}: not TOML: {position[1]}") from None


def _show(value: Any) -> str:
    """A value in at most 60 printable characters."""
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
