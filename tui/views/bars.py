"""The bars of every screen: screens, alerts and clock at the top; keys or progress at the bottom. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from paceline.engine.store.state import State
from textual.strip import Strip

from ..messages import View
from ..terminal.format import clock, count, duration, percent, sanitize
from ..theme import GLYPHS, PALETTE
from .alerts import unacknowledged_alerts
from .drawing.lines import NO_STYLE, Piece, click_style, gauge, justified_line, line

PHASE_GAUGE_CELLS = 12
"""Width of the progress gauge in the bottom bar."""


class ScreenEntry(NamedTuple):
    """A screen that a key, a tab and a name at the prompt lead to."""

    key: str
    name: str
    title: str
    path: str
    """Module and class below tui/screens; imported when the screen is first shown."""


SCREENS = (
    ScreenEntry("1", "fleet", "Fleet", "fleet.FleetScreen"),
    ScreenEntry("2", "jobs", "Jobs", "jobs.JobsScreen"),
    ScreenEntry("3", "run", "Run", "run.RunScreen"),
    ScreenEntry("4", "alerts", "Alerts", "alerts.AlertsScreen"),
    ScreenEntry("5", "results", "Results", "results.ResultsScreen"),
    ScreenEntry("6", "advice", "Advice", "advice.AdviceScreen"),
    ScreenEntry("7", "logs", "Logs", "logs.LogsScreen"),
    ScreenEntry("8", "profiles", "Profiles", "measured.profiles.ProfilesScreen"),
    ScreenEntry("9", "experiments", "Experiments", "measured.experiments.ExperimentsScreen"),
)
"""Every screen. Keys, tabs, names at the prompt and the app's modes come from this table."""


def top_bar(view: View, current: str, width: int) -> Strip:
    """The top bar: screens, alerts, lab and clock."""
    state = view.state
    unacknowledged = unacknowledged_alerts(view)
    critical = sum(alert.severity == "critical" for alert in unacknowledged)
    warning = len(unacknowledged) - critical
    badges: list[Piece] = []
    if view.is_paused:
        badges.append((" PAUSED ", PALETTE.warning + click_style("app.pause")))
    if critical:
        badges.append((f" {GLYPHS['critical']}{critical}", PALETTE.critical + click_style("app.visit('alerts')")))
    if warning:
        badges.append((f" {GLYPHS['warning']}{warning}", PALETTE.warning + click_style("app.visit('alerts')")))
    if view.is_replay:
        badges.append((" replay ", PALETTE.accent))
    is_emulated = any(device.reading.kind == "emulated" for node in state.nodes.values() for device in node.devices)
    label = "emulated" if is_emulated else ""
    clock_piece = (f" {clock(state.clock)} ", PALETTE.text)
    lab = sanitize(state.lab, 24)
    long_label, short_label = (
        " · ".join(filter(None, words)) for words in ((lab, count(len(state.nodes), "node"), label), (lab, label))
    )
    left = _tabs(current, width - sum(len(text) for text, _ in (*badges, clock_piece)))
    for label_text in (f"  {long_label} ·", f"  {short_label} ·", f"  {label}", ""):
        end = [*badges, (label_text, PALETTE.dim), clock_piece]
        if sum(len(text) for text, _ in (*left, *end)) < width:
            return justified_line(width, left, end)
    while len(badges) > 1 and sum(len(text) for text, _ in (*left, *badges)) >= width:
        badges.pop()  # the least important one
    return justified_line(width, left, badges or [clock_piece])


def _tabs(current: str, room: int) -> list[Piece]:
    """The keys and names of the screens. In less room the program's name goes first, then the gaps, then the longest names."""
    click_styles = {name: click_style(f"app.visit('{name}')") for _, name, *_ in SCREENS}
    wide = [
        (f" {key} {title} ", (PALETTE.tab if name == current else PALETTE.dim) + click_styles[name])
        for key, name, title, _ in SCREENS
    ]
    for pieces in ([(" paceline ", PALETTE.accent_strong), *wide], wide):
        if sum(len(text) for text, _ in pieces) < room:
            return pieces
    titles = {name: f" {title}" for _, name, title, _ in SCREENS}
    while sum(len(title) + 2 for title in titles.values()) >= room:
        longest = max(titles, key=lambda name: len(titles[name]) * (name != current))
        if longest == current or not titles[longest]:
            break
        titles[longest] = ""
    return [
        (f" {key}{titles[name]}", (PALETTE.accent_strong if name == current else PALETTE.dim) + click_styles[name])
        for key, name, _, _ in SCREENS
    ]


def key_bar(keys: Sequence[tuple[str, str, str]], width: int) -> Strip:
    """Keys with one word each, which the mouse can press too; ``keys``: label, word and Textual's name. The help lists the keys
    that do not fit."""
    pieces: list[Piece] = []
    used = 1
    for name, word, key in keys:
        size = len(name) + len(word) + 3
        if used + size > width:
            break
        used += size
        click = click_style(f"app.simulate_key({key!r})")
        pieces += [(f" {name} ", PALETTE.accent + click), (f"{word} ", PALETTE.dim + click)]
    return line(width, *pieces)


def phase_pieces(state: State) -> list[Piece]:
    """The current phase of a launch, its progress, and the time left."""
    pieces: list[Piece] = [(f" {GLYPHS['starting']} {sanitize(state.phase)}", PALETTE.text)]
    if state.fraction is not None:
        left = f" · {duration(state.seconds_left)} left" if state.seconds_left is not None else ""
        pieces += [("  ", NO_STYLE), *gauge(state.fraction, PHASE_GAUGE_CELLS, PALETTE.accent, PALETTE.rest)]
        detail = f" · {sanitize(state.detail)}" if state.detail else ""
        pieces.append((f" {percent(state.fraction)}{detail}{left}", PALETTE.text))
    return pieces
