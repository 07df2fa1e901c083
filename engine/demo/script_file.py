"""Reads ``session.toml``: the acts and moments of a demo session as frozen values. A wrong file is refused with the key."""

from __future__ import annotations

import re
import string
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from ..events import EVENTS

CAPTION_SCREENS = ("", "fleet", "jobs", "run", "alerts", "results", "advice", "logs", "profiles", "experiments")
"""Screens that a caption may point at."""


@dataclass(frozen=True, slots=True)
class Act:
    """A line as typed at the ``:`` prompt, performed to its end."""

    run: str
    say: str = ""
    """Said before it."""
    look: str = ""
    then: str = ""
    """Said after it; may name fields of its document, such as ``{verdict}``."""
    then_look: str = ""
    pause: float = 0.0
    """Seconds to read what was said after it."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What is said and done, once, at an event of a kind."""

    when: str
    """Kind of the event."""
    where: Mapping[str, Any] = field(default_factory=dict)
    """Fields that must have these values."""
    reach: Mapping[str, float] = field(default_factory=dict)
    """Fields that must be at least so large."""
    of: int = 1
    """Which of these events: the first, the second."""
    say: str = ""
    """May name fields of the event, such as ``{slowdown:.1f}``."""
    look: str = ""
    lose: str = ""
    """Node whose power is cut."""
    back: str = ""
    """Node whose power returns."""

    def meets(self, event: object) -> bool:
        """Whether an event is of this kind and has these fields."""
        if type(event).__name__ != self.when:
            return False
        if any(getattr(event, name) != (tuple(value) if isinstance(value, list) else value) for name, value in self.where.items()):
            return False
        return all(isinstance(value := getattr(event, name), int | float) and value >= least for name, least in self.reach.items())


@dataclass(frozen=True, slots=True)
class DemoScript:
    """What is done in a demo session and what is said."""

    title: str
    acts: tuple[Act, ...]
    moments: tuple[Moment, ...] = ()


def read_script(path: Path) -> DemoScript:
    """Read a session.toml. Raises ConfigurationError with the file and the key."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: {error}") from None
    _check_keys(path, "the session", document, {"title", "act", "moment"}, {"title", "act"})
    acts = tuple(Act(**_values(path, "act", Act, table)) for table in document["act"])
    moments = tuple(Moment(**_values(path, "moment", Moment, table)) for table in document.get("moment", ()))
    for moment in moments:
        _check_moment(path, moment)
    return DemoScript(document["title"], acts, moments)


def _values(path: Path, what: str, kind: type[Act] | type[Moment], table: dict[str, Any]) -> dict[str, Any]:
    names = {one.name for one in fields(kind)}
    _check_keys(path, f"[[{what}]]", table, names, {"run"} if kind is Act else {"when"})
    for name in ("look", "then_look"):
        if table.get(name, "") not in CAPTION_SCREENS:
            raise ConfigurationError(
                f"{path}: {what}.{name}: no screen {table[name]!r}", hint=f"one of {', '.join(CAPTION_SCREENS[1:])}"
            )
    return table


def _check_keys(path: Path, what: str, table: Mapping[str, Any], known: set[str], required: set[str]) -> None:
    wrong = sorted(table.keys() - known) or sorted(required - table.keys())
    if wrong:
        problem = "unknown key" if wrong[0] in table else "missing key"
        raise ConfigurationError(f"{path}: {what}: {problem} {wrong[0]!r}", hint=f"it takes {', '.join(sorted(known))}")


def _check_moment(path: Path, moment: Moment) -> None:
    """Raise ConfigurationError where a moment names a kind of event or a field that does not exist."""
    kind = EVENTS.get(moment.when)
    if kind is None:
        raise ConfigurationError(f"{path}: moment.when: no event {moment.when!r}")
    known = {one.name for one in fields(kind)}
    named = set(_names(moment.say))
    if wrong := sorted((named | moment.where.keys() | moment.reach.keys()) - known):
        raise ConfigurationError(f"{path}: {moment.when} has no field {wrong[0]!r}", hint=f"it has {', '.join(sorted(known))}")


class _Words(string.Formatter):
    """``str.format`` with ``—`` for what is not known, and lists as they are read: ``42/14/8``."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        try:
            return super().get_field(field_name, args, kwargs)
        except (KeyError, IndexError, TypeError, AttributeError):
            return None, field_name

    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, tuple | list):
            return "/".join(map(str, value))
        return "—" if value is None else str(super().format_field(value, format_spec))


def told(text: str, values: Mapping[str, Any]) -> str:
    """A sentence with the values that it names."""
    return _Words().vformat(text, (), {**dict.fromkeys(_names(text)), **values})


def _names(text: str) -> list[str]:
    """The values that a sentence names: ``cases`` of ``{cases[3][policy]}``."""
    return [re.split(r"[.\[]", name)[0] for _, name, _, _ in string.Formatter().parse(text) if name]
