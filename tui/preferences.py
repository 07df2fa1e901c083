"""The preferences of a person: theme, keys and habits of the terminal. Read at start, never written.

``$XDG_CONFIG_HOME/paceline/config.toml``, else ``~/.config/paceline/config.toml``:

    theme = "signal"            # one of theme.THEMES
    ascii = false               # draw with ASCII characters only
    bell = true                 # ring when a run ends
    read_only = false           # refuse every verb that acts on a node
    remember_tour = false       # keep in the state directory that the tour was seen, and propose it no more
    [keys]
    fleet = "f2"                # action = key, or several with commas; Ctrl+C always leaves
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paceline.engine.inventory.toml_file import TomlFile
from paceline.engine.inventory.values import InvalidValue, Readers, flag
from platformdirs.unix import Unix


@dataclass(frozen=True, slots=True)
class Preferences:
    """One field per key of the file."""

    theme: str = "night"
    ascii: bool = False
    bell: bool = True
    read_only: bool = False
    remember_tour: bool = False
    keys: Mapping[str, str] = field(default_factory=dict)
    """Keys by the id of their action."""


def preferences_path() -> Path:
    """Path of the preferences file, by the XDG Base Directory Specification."""
    return Unix("paceline").user_config_path / "config.toml"


def seen_file() -> Path:
    """The empty file that remembers that the tour was seen, where the preferences allow that."""
    return Unix("paceline").user_state_path / "tour-seen"


def read_preferences(path: Path, themes: tuple[str, ...] | None = None, actions: tuple[str, ...] | None = None) -> Preferences:
    """The preferences in a file, or the defaults where there is no file. Raises ConfigurationError with file, line and key.

    ``themes`` and ``actions``: known names; None, where no screen is drawn: any name is accepted.
    """
    try:
        path.stat()
    except FileNotFoundError:
        return Preferences()
    except OSError:
        pass  # TomlFile reports it
    file = TomlFile(path, "preferences", "make it readable, or remove it: every preference has a default")
    readers: Readers = {"theme": _theme_reader(themes), "ascii": flag, "bell": flag, "read_only": flag, "remember_tour": flag}
    document = file.load()
    values = file.read_values((), document, readers, "the preferences", nested=("keys",))
    table = file.table(("keys",), document.get("keys", {}))
    keys = file.read_values(("keys",), table, dict.fromkeys(table if actions is None else actions, _key), "[keys]")
    return Preferences(**values, keys=keys)


def _theme_reader(themes: tuple[str, ...] | None) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str):
            raise InvalidValue("expected a name in quotes")
        if themes is not None and value not in themes:
            raise InvalidValue(f"expected one of {', '.join(themes)}")
        return value

    return read


def _key(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidValue('expected a key in quotes, such as "f2"')
    return value
