"""The configuration file of a person, and lines for plain terminals."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paceline.engine.errors import ConfigurationError
from paceline.tui.preferences import Preferences, preferences_path, read
from paceline.tui.terminal.ascii import to_ascii
from paceline.tui.terminal.format import untrusted
from paceline.tui.theme import GLYPHS
from paceline.tui.views.drawing.lines import BLOCK, bar, history
from rich.cells import cell_len

THEMES, ACTIONS = ("night", "signal"), ("fleet", "pause")


def read_text(tmp_path: Path, text: str) -> Preferences:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return read(path, THEMES, ACTIONS)


def test_without_a_file_everything_is_as_usual(tmp_path: Path) -> None:
    assert read(tmp_path / "config.toml", THEMES, ACTIONS) == Preferences()


def test_what_the_file_says_is_preferred(tmp_path: Path) -> None:
    found = read_text(tmp_path, 'theme = "signal"\nascii = true\n[keys]\nfleet = "f2,w"\n')
    assert found == Preferences(theme="signal", ascii=True, keys={"fleet": "f2,w"})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('theme = "sunny"', "no theme 'sunny'"),
        ('themes = "signal"', "did you mean theme?"),
        ("ascii = 1", "expected true or false"),
        ("keys = 3", "a table [keys]"),
        ('[keys]\nfleat = "f"', "did you mean fleet?"),
        ("[keys]\nfleet = 2", "keys.fleet: expected a key"),
        ("theme = ?", "line 1"),
        ("\x00", "config.toml"),
    ],
)
def test_a_wrong_file_is_refused_with_file_and_key(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read_text(tmp_path, text)
    assert told in str(refused.value)
    assert "config.toml" in str(refused.value)


def test_the_file_lies_where_the_desktop_says() -> None:
    assert preferences_path({"HOME": "/home/ada"}) == Path("/home/ada/.config/paceline/config.toml")
    assert preferences_path({"HOME": "/home/ada", "XDG_CONFIG_HOME": "/etc/xdg"}) == Path("/etc/xdg/paceline/config.toml")
    assert preferences_path({"HOME": "/home/ada", "XDG_CONFIG_HOME": "relative"}) == Path("/home/ada/.config/paceline/config.toml")


@given(st.text(max_size=60).map(untrusted))
def test_ascii_keeps_the_width_of_every_text(text: str) -> None:
    plain = to_ascii(text)
    assert plain.isascii()
    assert cell_len(plain) == cell_len(text)


def test_our_own_signs_stay_apart_in_ascii() -> None:
    states = ("ok", "warning", "critical", "stale", "running", "cancelled", "waiting")
    assert len({to_ascii(GLYPHS[state]) for state in states}) == len(states)
    assert "?" not in to_ascii(bar(0.4, 9) + BLOCK + history([0.0, 0.5, 1.0], 3) + "━╸─" + "⣀⣿")
