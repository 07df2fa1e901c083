"""The keys of the app in one table: bindings, bottom bar, help and the [keys] of the preferences are made from it.

Keys of one screen are bindings of that screen. Every binding has an id, by which [keys] and the bottom bar name it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from paceline.engine.errors import ConfigurationError
from textual.binding import Binding
from textual.keys import KEY_NAME_REPLACEMENTS, Keys
from textual.screen import Screen

from .views.bars import SCREENS
from .widgets.line_canvas import RowList

RESERVED_KEYS = ("ctrl+c", "ctrl+q")
"""Keys that always leave; [keys] cannot take them."""

EVERYWHERE: tuple[Binding, ...] = (
    *(Binding(key, f"visit('{name}')", title, id=name) for key, name, title, _ in SCREENS),
    Binding("colon", "ask", "type a command", id="command", priority=True),
    Binding("ctrl+p", "palette", "find any command by its name", id="palette"),
    Binding("question_mark,f1", "explain", "this help", id="help"),
    Binding("T", "tour", "a tour of the screens, in eight steps", id="tour"),
    Binding("plus,t", "start", "start a job: fill in, see the plan, launch", id="start"),
    Binding("C", "cancel", "cancel a run, after a confirmation", id="cancel"),
    Binding("R", "resume", "resume an ended run from its newest checkpoint, in a form", id="resume"),
    Binding("p", "pause", "freeze the view; collecting goes on", id="pause"),
    Binding("e", "export", "write the list to a file, with the rows out of sight", id="export"),
    Binding("f12", "picture", "save the screen as SVG and PNG", id="picture"),
    Binding("left_square_bracket", "seek('-10')", "replay: 10 s back", id="replay.back"),
    Binding("right_square_bracket", "seek('+10')", "replay: 10 s on", id="replay.on"),
    Binding("left_parenthesis", "step('back second')", "replay: 1 s back, paused", id="replay.second_back"),
    Binding("right_parenthesis", "step('second')", "replay: 1 s on, paused", id="replay.second"),
    Binding("comma", "step('back')", "replay: one event back, paused", id="replay.event_back"),
    Binding("full_stop", "step('')", "replay: one event on, paused", id="replay.event"),
    Binding("left_curly_bracket", "seek('previous')", "replay: to the mark before", id="replay.previous"),
    Binding("right_curly_bracket", "seek('next')", "replay: to the next mark", id="replay.next"),
    Binding("less_than_sign", "hurry(0.5)", "replay: half as fast", id="replay.slower"),
    Binding("greater_than_sign", "hurry(2)", "replay: twice as fast", id="replay.faster"),
    Binding("escape", "back", "back to the previous screen, else to the run", id="back"),
    Binding("ctrl+z", "suspend_process", "to the shell; fg returns", id="suspend"),
    Binding("q", "leave", "leave; runs go on", id="quit"),
    Binding("ctrl+c", "leave", show=False, priority=True),  # also while an input or a dialog has the focus
)

_KEY_LABELS = {
    **{"question_mark": "?", "colon": ":", "slash": "/", "plus": "+", "space": "Space", "enter": "Enter", "escape": "Esc"},
    **{"up": "↑", "down": "↓", "left": "←", "right": "→", "pagedown": "PgDn", "pageup": "PgUp", "home": "Home", "end": "End"},
    **{"left_square_bracket": "[", "right_square_bracket": "]", "less_than_sign": "<", "greater_than_sign": ">"},
    **{"left_parenthesis": "(", "right_parenthesis": ")", "left_curly_bracket": "{", "right_curly_bracket": "}"},
    **{"comma": ",", "full_stop": "."},
}
_KNOWN_KEYS = (
    frozenset(key.value.rpartition("+")[2] for key in Keys) | frozenset(KEY_NAME_REPLACEMENTS.values()) | frozenset(_KEY_LABELS)
)


def key_label(key: str) -> str:
    """The name of a key for a person, such as ``Ctrl+P`` for ``ctrl+p``."""
    if key.startswith("ctrl+"):
        return f"Ctrl+{key[5:].upper()}"
    return _KEY_LABELS.get(key, key.upper() if key.startswith("f") and key[1:].isdigit() else key)


class KeyMap:
    """The bindings of every screen, on the keys that the preferences give them."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        """``keys``: keys by the id of a binding, several separated by commas."""
        self._keys = keys
        self._bindings: dict[type[Screen[Any]], dict[str, Binding]] = {}

    def bindings_of(self, screen: type[Screen[Any]]) -> dict[str, Binding]:
        """Every binding that works on a screen, by its id."""
        own = vars(screen).get("BINDINGS", ())  # inherited bindings are those of Textual
        tables = (EVERYWHERE, RowList.BINDINGS, own)
        bindings = [binding for table in tables for binding in table if isinstance(binding, Binding)]
        return {binding.id: self._mapped(binding.id, binding) for binding in bindings if binding.id}

    def key_bar(self, screen: type[Screen[Any]], entries: Iterable[tuple[str, str]]) -> list[tuple[str, str, str]]:
        """Label, word and Textual's name of the first key of each entry of a bottom bar. An entry is an id and a word."""
        if screen not in self._bindings:
            self._bindings[screen] = self.bindings_of(screen)
        bindings = [(next(iter(Binding.make_bindings([self._bindings[screen][name]]))), word) for name, word in entries]
        return [(key_label(binding.key), word, binding.key) for binding, word in bindings]

    def _mapped(self, name: str, binding: Binding) -> Binding:
        return replace(binding, key=self._keys[name]) if name in self._keys else binding


def check_keys(keys: Mapping[str, str], path: str) -> None:
    """Raise ConfigurationError for a key that does not exist or is reserved. ``path``: of the preferences file."""
    for action, names in keys.items():
        for key in (part.strip() for part in names.split(",")):
            bare = key.rpartition("+")[2] if len(key) > 1 else key
            if key in RESERVED_KEYS:
                raise ConfigurationError(f"{path}: keys.{action}: {key_label(key)} always leaves")
            if len(bare) != 1 and bare not in _KNOWN_KEYS:
                raise ConfigurationError(f"{path}: keys.{action}: no key {key!r}", hint="such as x, X, f2, ctrl+n or space")
