"""The rows of the jobs, and the two bars that frame every screen. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from paceline.engine.store.questions import progress, throughput_now, wall_clock
from paceline.engine.store.state import RunState, State
from textual.strip import Strip

from ..filter import Subject
from ..format import age, clock, count, fit, number, percent, right, untrusted
from ..messages import View
from ..theme import GLYPHS, PALETTE
from .alert_rows import unseen
from .lines import NONE, Piece, does, gauge, line, spread

SCREENS = (
    ("1", "fleet", "Fleet"),
    ("2", "jobs", "Jobs"),
    ("3", "run", "Run"),
    ("4", "alerts", "Alerts"),
    ("5", "results", "Results"),
    ("6", "advice", "Advice"),
    ("7", "logs", "Logs"),
    ("8", "profiles", "Profiles"),
)
"""Key, name and title of every screen; 9 is kept for experiments."""


def top_bar(view: View, current: str, width: int) -> Strip:
    """Where we are, of which lab, at what time."""
    state = view.state
    fresh = unseen(view)
    critical = sum(alert.severity == "critical" for alert in fresh)
    warning = len(fresh) - critical
    signs: list[Piece] = []
    if view.is_paused:
        signs.append((" PAUSED ", PALETTE.warning + does("app.pause")))
    if critical:
        signs.append((f" {GLYPHS['critical']}{critical}", PALETTE.critical + does("app.visit('alerts')")))
    if warning:
        signs.append((f" {GLYPHS['warning']}{warning}", PALETTE.warning + does("app.visit('alerts')")))
    if view.is_replay:
        signs.append(("  replay ", PALETTE.accent))
    is_emulated = any(device.reading.kind == "emulated" for node in state.nodes.values() for device in node.devices)
    label = "emulated" if is_emulated else ""
    now = (f" {clock(state.clock)} ", PALETTE.text)
    lab = untrusted(state.lab, 24)
    whole, short = (" · ".join(filter(None, words)) for words in ((lab, count(len(state.nodes), "node"), label), (lab, label)))
    left = _tabs(current, width - sum(len(text) for text, _ in (*signs, now)))
    for about in (f"  {whole} ·", f"  {short} ·", f"  {label}", ""):
        end = [*signs, (about, PALETTE.dim), now]
        if sum(len(text) for text, _ in (*left, *end)) < width:
            return spread(width, left, end)
    while len(signs) > 1 and sum(len(text) for text, _ in (*left, *signs)) >= width:
        signs.pop()  # what matters least
    return spread(width, left, signs or [now])


def _tabs(current: str, room: int) -> list[Piece]:
    """The screens' names; where there is less room, without ours, then closer together."""
    there = {name: does(f"app.visit('{name}')") for _, name, _ in SCREENS}
    wide = [(f" {key} {title} ", (PALETTE.tab if name == current else PALETTE.dim) + there[name]) for key, name, title in SCREENS]
    close = [
        (f" {key} {title}", (PALETTE.accent_strong if name == current else PALETTE.dim) + there[name])
        for key, name, title in SCREENS
    ]
    for pieces in ([(" paceline ", PALETTE.accent_strong), *wide], wide):
        if sum(len(text) for text, _ in pieces) < room:
            return pieces
    return close


def key_bar(keys: Sequence[tuple[str, str, str]], width: int) -> Strip:
    """What can be pressed here, with the mouse too: name, word and key of each; what does not fit is found under ``?``."""
    pieces: list[Piece] = []
    used = 1
    for name, what, key in keys:
        size = len(name) + len(what) + 3
        if used + size > width:
            break
        used += size
        press = does(f"app.simulate_key({key!r})")
        pieces += [(f" {name} ", PALETTE.accent + press), (f"{what} ", PALETTE.dim + press)]
    return line(width, *pieces)


# Jobs ---------------------------------------------------------------------------------------------------------------------------


def job_keys(state: State) -> list[str]:
    """Runs that go on first, then the newest."""
    return sorted(state.runs, key=lambda run_id: (state.runs[run_id].is_over, -state.runs[run_id].first_at))


def job_subject(state: State, run: RunState) -> Subject:
    """What a filter can ask about a run; words are looked for in its workload and cases, too."""
    texts = {
        "job": run.run_id,
        "node": "\n".join(run.nodes),
        "state": run.state,
        "kind": "bench" if run.is_bench else "train",
        "workload": run.workload,
        "cases": " ".join(case.name for case in run.cases),
        "reason": run.reason,
    }
    flags = {
        "busy": not run.is_over,
        "fault": run.state in ("failed", "unreachable"),
        "lost": run.state == "unreachable",
        "emulated": run.is_emulated,
        "straggler": run.current is not None and not run.is_over and any(one.is_open for one in run.current.stragglers),
    }
    return Subject({"age": max(0.0, state.at - run.first_at)}, {}, texts, frozenset(name for name, holds in flags.items() if holds))


def _rate(rate: float | None, silent: float, width: int) -> Piece:
    """Samples per second; where they are old, and no room is left to say so beside them, their age."""
    if silent and width < 110:
        return right(f"{GLYPHS['stale']} {age(silent)}", 9), PALETTE.warning
    return right(number(rate), 9), PALETTE.dim if silent else PALETTE.text


def silence(state: State, run: RunState) -> float:
    """Seconds for which a node of the run has said nothing, the longest; 0: all are heard."""
    nodes = [state.nodes[name] for name in run.nodes if name in state.nodes]
    return max((state.at - node.at for node in nodes if node.state in ("stale", "lost")), default=0.0)


def job_heading(width: int) -> Strip:
    """Names of the columns."""
    text = f"  {fit('state', 11)}{fit('run', 23)}{fit('workload', 11)}{fit('nodes', 7)}{fit('progress', 15)}{right('samples/s', 9)}"
    return line(width, (text + ("   started   cases" if width >= 110 else ""), PALETTE.dim))


def job_row(view: View, key: str, width: int, is_under_cursor: bool) -> Strip:
    """One run."""
    background = PALETTE.cursor if is_under_cursor else NONE
    run = view.state.runs.get(key)
    if run is None:
        return Strip.blank(width, NONE)
    word = PALETTE.of(run.state)
    seen = progress(run, view.state.at)
    done = seen.fraction if run.cases else None
    case = run.current
    rate = throughput_now(case) if case is not None and not run.is_over else None
    silent = 0.0 if run.is_over else silence(view.state, run)
    pieces: list[Piece] = [
        (f"{GLYPHS[run.state]} {fit(run.state, 11)}", word),
        (fit(untrusted(run.run_id), 22) + " ", PALETTE.text),
        (fit(untrusted(run.workload), 10) + " ", PALETTE.text),
        (right(str(len(run.nodes)), 5) + "  ", PALETTE.text),
        *gauge(done or 0.0, 8, PALETTE.accent if not run.is_over else PALETTE.bar_past, PALETTE.rest),
        (right(percent(done), 6) + " ", PALETTE.text),
        _rate(rate, silent, width),
    ]
    if silent and width >= 110:
        pieces.append((f"   {GLYPHS['stale']} no word for {age(silent)}", PALETTE.warning))
    if width >= 110:
        cases = ", ".join(untrusted(found.name) for found in run.cases)
        began = wall_clock(view.state, run.first_at) if run.started is None else run.started
        pieces.append((f"   {clock(began)}  {cases}", PALETTE.dim))
        pieces.append((f"  {untrusted(run.reason)}" if run.reason else "", PALETTE.of(run.state)))
    return line(width, *pieces, background=background)


def job_summary(view: View, width: int, height: int) -> list[Strip]:
    """One line over the list."""
    runs = view.state.runs.values()
    if not runs:
        return [line(width, ("no runs yet: press : and type  bench  or  train", PALETTE.dim))]
    going = sum(not run.is_over for run in runs)
    left: list[Piece] = [(count(len(runs), "run"), PALETTE.text), (f"  {going} going on", PALETTE.accent if going else PALETTE.dim)]
    return [spread(width, left, [(f"Enter looks at a run{'' if view.is_replay else ', C cancels it'}", PALETTE.dim)])]
