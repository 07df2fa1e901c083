"""The rows of the jobs, and the two bars that frame every screen. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from paceline.engine.store.selectors import progress, throughput_now, wall_clock
from paceline.engine.store.state import WAITING, RunState, State, WaitingJob
from rich.style import Style
from textual.strip import Strip

from ..filter import Subject
from ..messages import View
from ..terminal.format import age, clock, count, number, pad, pad_left, percent, untrusted
from ..theme import GLYPHS, PALETTE
from .alerts import unseen
from .drawing.lines import NONE, Piece, does, gauge, line, spread
from .drawing.sorting import Order, arranged, heading

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


FOUND = "found again"
"""Of a run that was not launched in this session."""
JOB_ORDERS = ("newest", "state", "workload", "nodes", "throughput")
"""What the list can be sorted by."""
NEWEST_FIRST = Order(JOB_ORDERS[0])
_STATES = ("unreachable", "failed", "running", "starting", WAITING, "cancelled", "done")
"""By state: trouble first, then what goes on."""


def job_keys(state: State, order: Order = NEWEST_FIRST) -> list[str]:
    """What waits, runs that go on, then the newest; or by another order. The job that waits is called ``waiting``."""
    runs = sorted(state.runs, key=lambda run_id: (state.runs[run_id].is_over, -state.runs[run_id].first_at))
    keys = [*([WAITING] if state.waiting is not None else []), *runs]
    if order.by == "newest":
        return keys[::-1] if order.is_reversed else keys
    return arranged(keys, lambda key: _value(state, key, order.by), order.is_reversed)


def _value(state: State, key: str, by: str) -> str | float | None:
    """What a row is sorted by: most nodes and most samples a second first; None: unknown."""
    job = state.waiting if key == WAITING else None
    run = state.runs[key] if job is None else None
    if by == "state":
        return _STATES.index(WAITING if run is None else run.state)
    if by == "workload":
        return (job or state.runs[key]).workload or None
    if by == "nodes":
        return -len((job or state.runs[key]).nodes) or None
    rate = None if run is None else _rate_now(run)
    return None if rate is None else -rate


def _rate_now(run: RunState) -> float | None:
    return throughput_now(run.current) if run.current is not None and not run.is_over else None


def job_subject(state: State, key: str) -> Subject:
    """What a filter can ask about a job; words are looked for in its workload, cases and who holds its devices, too."""
    job = state.waiting if key == WAITING else None
    return _run_subject(state, state.runs[key]) if job is None else _waiting_subject(state, job)


def _waiting_subject(state: State, job: WaitingJob) -> Subject:
    texts = {
        "node": "\n".join(job.nodes),
        "state": WAITING,
        "kind": "bench" if job.is_bench else "train",
        "workload": job.workload,
        "in use": " ".join(f"{device} {user}" for device, user in job.in_use),
    }
    return Subject({"age": max(0.0, state.at - job.since)}, {}, texts, frozenset())


def _run_subject(state: State, run: RunState) -> Subject:
    texts = {
        "job": run.run_id,
        "node": "\n".join(run.nodes),
        "state": run.state,
        "kind": "bench" if run.is_bench else "train",
        "workload": run.workload,
        "cases": " ".join(case.name for case in run.cases),
        "reason": run.reason,
        "found": FOUND if run.is_found else "",
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
        return pad_left(f"{GLYPHS['stale']} {age(silent)}", 9), PALETTE.warning
    return pad_left(number(rate), 9), PALETTE.dim if silent else PALETTE.text


def silence(state: State, run: RunState) -> float:
    """Seconds for which a node of the run has said nothing, the longest; 0: all are heard."""
    nodes = [state.nodes[name] for name in run.nodes if name in state.nodes]
    return max((state.at - node.at for node in nodes if node.state in ("stale", "lost")), default=0.0)


def job_heading(width: int, order: Order) -> Strip:
    """Names of the columns; a click on one sorts by it."""
    columns = (
        heading(f"  {pad('state', 11)}", "state", order),
        heading(pad("run", 23), "newest", order),
        heading(pad("workload", 11), "workload", order),
        heading(pad("nodes", 7), "nodes", order),
        (pad("progress", 15), PALETTE.dim),
        heading(pad_left("samples/s", 9), "throughput", order),
    )
    return line(width, *columns, ("   started   cases" if width >= 110 else "", PALETTE.dim))


def _waiting_row(state: State, job: WaitingJob, width: int, background: Style) -> Strip:
    """What a job waits for, and for how long: it has no run id and no progress yet."""
    lasted, more = age(state.at - job.since), f" +{len(job.in_use) - 1}" if len(job.in_use) > 1 else ""
    device, user = job.in_use[0]
    held = f"{untrusted(device)}{more}" + (f": {untrusted(user)}" if user else "")
    word: Piece = (f"{GLYPHS[WAITING]} {pad(WAITING, 11)}", PALETTE.of(WAITING))
    workload = pad(untrusted(job.workload), 10) + " "
    if width < 110:
        return line(width, word, (workload, PALETTE.text), (f"{lasted}, {held}", PALETTE.dim), background=background)
    waits: Piece = (pad(f"for {lasted}", 23), PALETTE.dim)
    nodes = pad_left(str(len(job.nodes)), 5) + "  "
    return line(width, word, waits, (workload + nodes, PALETTE.text), (f"{held}", PALETTE.dim), background=background)


def job_row(view: View, key: str, width: int, is_under_cursor: bool) -> Strip:
    """One run."""
    background = PALETTE.cursor if is_under_cursor else NONE
    if key == WAITING and view.state.waiting is not None:
        return _waiting_row(view.state, view.state.waiting, width, background)
    run = view.state.runs.get(key)
    if run is None:
        return Strip.blank(width, NONE)
    word = PALETTE.of(run.state)
    is_found = run.is_found and not run.is_over
    told = "found" if is_found and width < 110 and run.state == "running" else run.state
    seen = progress(run, view.state.at)
    done = seen.fraction if run.cases else None
    rate = _rate_now(run)
    silent = 0.0 if run.is_over else silence(view.state, run)
    pieces: list[Piece] = [
        (f"{GLYPHS[run.state]} {pad(told, 11)}", word),
        (pad(untrusted(run.run_id), 22) + " ", PALETTE.text),
        (pad(untrusted(run.workload), 10) + " ", PALETTE.text),
        (pad_left(str(len(run.nodes)), 5) + "  ", PALETTE.text),
        *gauge(done or 0.0, 8, PALETTE.accent if not run.is_over else PALETTE.bar_past, PALETTE.rest),
        (pad_left(percent(done), 6) + " ", PALETTE.text),
        _rate(rate, silent, width),
    ]
    if silent and width >= 110:
        pieces.append((f"   {GLYPHS['stale']} no word for {age(silent)}", PALETTE.warning))
    if width >= 110:
        cases = ", ".join(untrusted(found.name) for found in run.cases)
        began = wall_clock(view.state, run.first_at) if run.started is None else run.started
        pieces.append((f"   {clock(began)}  {cases}", PALETTE.dim))
        if is_found:
            follows = "" if run.ranks or view.is_replay else ", Enter follows it"
            pieces.append((f"{'  ' if cases else ''}{FOUND}{follows}", PALETTE.accent))
        pieces.append((f"  {untrusted(run.reason)}" if run.reason else "", PALETTE.of(run.state)))
    return line(width, *pieces, background=background)


def job_summary(view: View, width: int, order: Order) -> list[Strip]:
    """One line over the list, its order at the right."""
    runs = view.state.runs.values()
    waiting = view.state.waiting is not None
    if not runs and not waiting:
        return [line(width, ("no runs yet: press : and type  bench  or  train", PALETTE.dim))]
    going = sum(not run.is_over for run in runs)
    left: list[Piece] = [(count(len(runs), "run"), PALETTE.text), (f"  {going} going on", PALETTE.accent if going else PALETTE.dim)]
    left.append(("  1 waits for devices" if waiting else "", PALETTE.text))
    return [spread(width, left, [order.told])]
