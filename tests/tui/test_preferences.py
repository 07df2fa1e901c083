"""The configuration file of a person, and lines for plain terminals."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paceline.engine.errors import ConfigurationError
from paceline.tui.preferences import Preferences, preferences_path, read_preferences
from paceline.tui.prompt_history import history_path
from paceline.tui.terminal.ascii import to_ascii
from paceline.tui.terminal.format import sanitize
from paceline.tui.theme import GLYPHS
from paceline.tui.views.drawing.lines import FULL_BLOCK, bar, sparkline
from rich.cells import cell_len

THEMES, ACTIONS = ("night", "signal"), ("fleet", "pause")


def read_text(tmp_path: Path, text: str) -> Preferences:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return read_preferences(path, THEMES, ACTIONS)


def test_without_a_file_everything_is_as_usual(tmp_path: Path) -> None:
    assert read_preferences(tmp_path / "config.toml", THEMES, ACTIONS) == Preferences()


def test_what_the_file_says_is_preferred(tmp_path: Path) -> None:
    found = read_text(tmp_path, 'theme = "signal"\nascii = true\n[keys]\nfleet = "f2,w"\n')
    assert found == Preferences(theme="signal", ascii=True, keys={"fleet": "f2,w"})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('theme = "sunny"', "theme: expected one of night, signal, got 'sunny'"),
        ('themes = "signal"', "did you mean 'theme'?"),
        ("ascii = 1", "expected true or false"),
        ("keys = 3", "keys: expected a table"),
        ('[keys]\nfleat = "f"', "did you mean 'fleet'?"),
        ("[keys]\nfleet = 2", ":2: fleet: expected a key"),
        ("theme = ?", ":1: not TOML"),
        ("\x00", "config.toml"),
    ],
)
def test_a_wrong_file_is_refused_with_file_and_key(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read_text(tmp_path, text)
    assert told in str(refused.value)
    assert "config.toml" in str(refused.value)


def test_the_files_are_in_the_directories_of_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    for value, config, state in (
        (None, "/home/ada/.config", "/home/ada/.local/state"),
        ("/etc/xdg", "/etc/xdg", "/etc/xdg"),
        ("relative", "/home/ada/.config", "/home/ada/.local/state"),
    ):
        for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
            monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
        assert preferences_path() == Path(config) / "paceline" / "config.toml"
        assert history_path() == Path(state) / "paceline" / "history"


@given(st.text(max_size=60).map(sanitize))
def test_ascii_keeps_the_width_of_every_text(text: str) -> None:
    plain = to_ascii(text)
    assert plain.isascii()
    assert cell_len(plain) == cell_len(text)


def test_our_own_signs_stay_apart_in_ascii() -> None:
    states = ("ok", "warning", "critical", "stale", "running", "cancelled", "waiting")
    assert len({to_ascii(GLYPHS[state]) for state in states}) == len(states)
    assert "?" not in to_ascii(bar(0.4, 9) + FULL_BLOCK + sparkline([0.0, 0.5, 1.0], 3) + "━╸─" + "⣀⣿")
