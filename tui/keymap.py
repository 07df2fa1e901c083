"""The keys that work everywhere, in one table: bindings, footer, help and the key map of a person's file are made from it.

Keys of one screen stand on that screen. Every binding has an id, by which a key map and the footer name it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from paceline.engine.errors import ConfigurationError
from textual.binding import Binding
from textual.keys import KEY_NAME_REPLACEMENTS, Keys

from .views.jobs import SCREENS

ALWAYS = ("ctrl+c", "ctrl+q")
"""Keys that leave whatever a key map says."""

EVERYWHERE: tuple[Binding, ...] = (
    *(Binding(key, f"visit('{name}')", title, id=name) for key, name, title in SCREENS),
    Binding("colon", "ask", "type a command", id="command", priority=True),
    Binding("ctrl+p", "palette", "find anything by its name", id="palette"),
    Binding("question_mark,f1", "explain", "this help", id="help"),
    Binding("plus,t", "start", "start a job: fill in, see the plan, launch", id="start"),
    Binding("C", "cancel", "cancel a run, after a question", id="cancel"),
    Binding("p", "pause", "freeze the view; collecting goes on", id="pause"),
    Binding("e", "export", "write the list as a file, also what is out of sight", id="export"),
    Binding("f12", "picture", "save the screen as SVG", id="picture"),
    Binding("left_square_bracket", "seek('-10')", "replay: 10 s back", id="replay.back"),
    Binding("right_square_bracket", "seek('+10')", "replay: 10 s on", id="replay.on"),
    Binding("less_than_sign", "hurry(0.5)", "replay: half as fast", id="replay.slower"),
    Binding("greater_than_sign", "hurry(2)", "replay: twice as fast", id="replay.faster"),
    Binding("escape", "back", "back to where one came from, else to the run", id="back"),
    Binding("ctrl+z", "suspend_process", "to the shell; fg comes back", id="suspend"),
    Binding("q", "leave", "leave at once; runs go on", id="quit"),
    Binding("ctrl+c", "leave", show=False, priority=True),  # also where an input or a dialog has the keys
)

_NAMES = {
    **{"question_mark": "?", "colon": ":", "slash": "/", "plus": "+", "space": "Space", "enter": "Enter", "escape": "Esc"},
    **{"up": "↑", "down": "↓", "left": "←", "right": "→", "pagedown": "PgDn", "pageup": "PgUp", "home": "Home", "end": "End"},
    **{"left_square_bracket": "[", "right_square_bracket": "]", "less_than_sign": "<", "greater_than_sign": ">"},
}
_KNOWN = frozenset(key.value.rpartition("+")[2] for key in Keys) | frozenset(KEY_NAME_REPLACEMENTS.values()) | frozenset(_NAMES)


def shown(key: str) -> str:
    """A key as people call it."""
    if key.startswith("ctrl+"):
        return f"Ctrl+{key[5:].upper()}"
    return _NAMES.get(key, key.upper() if key.startswith("f") and key[1:].isdigit() else key)


def with_map(bindings: Iterable[Binding], keys: Mapping[str, str]) -> list[Binding]:
    """The same bindings, on the keys that a person prefers."""
    return [replace(binding, key=keys[binding.id]) if binding.id in keys else binding for binding in bindings]


def check_map(keys: Mapping[str, str], place: str) -> None:
    """Refuse keys that nobody can press, and those that must stay. Raises ConfigurationError."""
    for action, wanted in keys.items():
        for key in (part.strip() for part in wanted.split(",")):
            bare = key.rpartition("+")[2] if len(key) > 1 else key
            if key in ALWAYS:
                raise ConfigurationError(f"{place}: keys.{action}: {shown(key)} always leaves")
            if len(bare) != 1 and bare not in _KNOWN:
                raise ConfigurationError(f"{place}: keys.{action}: no key {key!r}", hint="such as x, X, f2, ctrl+n or space")
