"""What a person prefers in every session: theme, keys, marks of the terminal. Read once from their file, never written.

``$XDG_CONFIG_HOME/paceline/config.toml``, else ``~/.config/paceline/config.toml``:

    theme = "signal"            # one of theme.THEMES
    ascii = false               # only characters of ASCII
    bell = true                 # ring when a run ends
    read_only = false           # refuse everything that acts on a node
    [keys]
    fleet = "f2"                # action = key, or several with commas; the key that leaves stays
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paceline.engine.errors import ConfigurationError

LONGEST = 64 << 10
"""Bytes of a configuration file; more is a mistake."""


@dataclass(frozen=True, slots=True)
class Preferences:
    """One field a key of the file."""

    theme: str = "night"
    ascii: bool = False
    bell: bool = True
    read_only: bool = False
    keys: Mapping[str, str] = field(default_factory=dict)
    """Keys by the name of their action."""


def preferences_path(env: Mapping[str, str] = os.environ) -> Path:
    """Where the file is looked for."""
    base = env.get("XDG_CONFIG_HOME", "")
    return (
        (Path(base) if base.startswith("/") else Path(env.get("HOME", "~")).expanduser() / ".config") / "paceline" / "config.toml"
    )


def read(path: Path, themes: tuple[str, ...] | None = None, actions: tuple[str, ...] | None = None) -> Preferences:
    """The preferences of a file; the usual ones where there is none. Raises ConfigurationError with file and key.

    Without ``themes`` and ``actions``, as where no screen is drawn, names of themes and actions are not looked up.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LONGEST + 1)
    except FileNotFoundError:
        return Preferences()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > LONGEST:
        raise ConfigurationError(f"{path}: larger than {LONGEST >> 10} KiB")
    try:
        found = tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}") from None
    _check_names(path, "", found, ("theme", "ascii", "bell", "read_only", "keys"))
    for name in ("ascii", "bell", "read_only"):
        _check_type(path, found, name, bool, "true or false")
    _check_type(path, found, "theme", str, "a name in quotes")
    if themes is not None and found.get("theme", themes[0]) not in themes:
        raise ConfigurationError(f"{path}: theme: no theme {found['theme']!r}", hint=f"there are {', '.join(themes)}")
    _check_type(path, found, "keys", dict, "a table [keys]")
    keys: dict[str, Any] = found.get("keys", {})
    if actions is not None:
        _check_names(path, "keys.", keys, actions)
    for name in keys:
        _check_type(path, keys, name, str, 'a key in quotes, such as "f2"', "keys.")
    return Preferences(**{**found, "keys": keys})


def _check_names(path: Path, where: str, found: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in found:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise ConfigurationError(f"{path}: unknown key {where}{name}", hint=hint)


def _check_type(path: Path, found: Mapping[str, Any], name: str, kind: type, expected: str, where: str = "") -> None:
    if name in found and not isinstance(found[name], kind):
        raise ConfigurationError(f"{path}: {where}{name}: expected {expected}, got {found[name]!r}")
