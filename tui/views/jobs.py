"""The list of jobs: its rows, their order and what a filter can compare. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paceline.engine.store.selectors import progress, recent_throughput, seconds_taken, started_at, wall_clock
from paceline.engine.store.state import WAITING_JOB_ID, RunState, State, WaitingJob
from rich.style import Style
from textual.strip import Strip

from ..filter import FilterFields
from ..messages import View
from ..terminal.format import UNKNOWN, age, clock, count, duration, local_time, loss, number, pad, pad_left, percent, sanitize
from ..theme import GLYPHS, PALETTE
from .drawing.lines import NO_STYLE, Piece, gauge, justified_line, line
from .drawing.sorting import Order, sortable_heading, sorted_keys

FOUND_AGAIN_TEXT = "found again"
"""Shown for a run that another session launched."""
JOB_ORDERS = ("newest", "state", "workload", "nodes", "throughput")
"""Sort keys of the list."""
NEWEST_JOBS_FIRST = Order(JOB_ORDERS[0])
_STATE_ORDER = ("unreachable", "failed", "running", "starting", "queued", WAITING_JOB_ID, "cancelled", "done")
"""Order by state: failures first, then active runs."""


def job_keys(state: State, order: Order = NEWEST_JOBS_FIRST) -> list[str]:
    """Run ids in an order; by ``newest``: the waiting job, active runs, ended runs. The key of the waiting job is ``waiting``."""
    runs = sorted(state.runs, key=lambda run_id: _age_key(state, state.runs[run_id]))
    keys = [*([WAITING_JOB_ID] if state.waiting is not None else []), *runs]
    if order.by == "newest":
        return keys[::-1] if order.is_reversed else keys
    return sorted_keys(keys, lambda key: _sort_value(state, key, order.by), order.is_reversed)


def _age_key(state: State, run: RunState) -> tuple[bool, float, str]:
    """Active runs first, then the newest."""
    return run.is_over, -(started_at(state, run) or 0.0), run.run_id


def _sort_value(state: State, key: str, by: str) -> str | float | None:
    """The sort value of a row, smallest first, so most nodes and most samples per second are negative; None: unknown."""
    job = state.waiting if key == WAITING_JOB_ID else None
    run = state.runs[key] if job is None else None
    if by == "state":
        return _STATE_ORDER.index(WAITING_JOB_ID if run is None else run.state)
    if by == "workload":
        return (job or state.runs[key]).workload or None
    if by == "nodes":
        return -len((job or state.runs[key]).nodes) or None
    rate = None if run is None else _current_rate(run)
    return None if rate is None else -rate


def _current_rate(run: RunState) -> float | None:
    """Samples per second now; of an ended run those of its result."""
    if run.is_over:
        return run.summary.samples_per_second
    return recent_throughput(run.current) if run.current is not None else None


def job_fields(state: State, key: str) -> FilterFields:
    """The values of a job that a filter compares; words match its workload, cases and the users of its devices too."""
    job = state.waiting if key == WAITING_JOB_ID else None
    return _run_fields(state, state.runs[key]) if job is None else _waiting_job_fields(state, job)


def _waiting_job_fields(state: State, job: WaitingJob) -> FilterFields:
    texts = {
        "node": "\n".join(job.nodes),
        "state": WAITING_JOB_ID,
        "kind": "bench" if job.is_bench else "train",
        "workload": job.workload,
        "in use": " ".join(f"{device} {user}" for device, user in job.in_use),
    }
    return FilterFields({"age": max(0.0, state.at - job.since)}, {}, texts, frozenset())


def _run_fields(state: State, run: RunState) -> FilterFields:
    texts = {
        "job": run.run_id,
        "node": "\n".join(run.nodes),
        "state": run.state,
        "kind": "bench" if run.is_bench else "train",
        "workload": run.workload,
        "cases": " ".join((run.name, *run.summary.policies, *(case.name for case in run.cases))),
        "reason": run.reason,
        "found": FOUND_AGAIN_TEXT if run.is_discovered else "",
    }
    flags = {
        "busy": not run.is_over,
        "fault": run.state in ("failed", "unreachable"),
        "lost": run.state == "unreachable",
        "emulated": run.is_emulated,
        "straggler": run.current is not None and not run.is_over and any(straggler.is_open for straggler in run.current.stragglers),
    }
    return FilterFields(
        {"age": max(0.0, state.at - run.began_at)}, {}, texts, frozenset(name for name, holds in flags.items() if holds)
    )


def day_and_time(state: State, at: float | None) -> str:
    """``14:02:31`` of today, ``28 Nov 14:02`` of another day; unknown as a dash."""
    if at is None:
        return UNKNOWN
    today = state.clock is not None and local_time(at, "%Y-%m-%d") == local_time(wall_clock(state, state.at), "%Y-%m-%d")
    return clock(at) if today else local_time(at, "%d %b %H:%M") or UNKNOWN


def quality(run: RunState) -> str:
    """The metric of the last epoch, or its loss: ``accuracy 97.1 %``; empty where there is none."""
    summary = run.summary
    if summary.metric is not None and summary.metric_name == "accuracy":
        return f"acc. {summary.metric * 100:.1f} %"
    if summary.metric is not None:
        return f"{sanitize(summary.metric_name, 8)} {loss(summary.metric)}"
    return "" if summary.loss is None else f"loss {loss(summary.loss)}"


def _progress_pieces(run: RunState, fraction: float | None, width: int) -> list[Piece]:
    """How far an active run is; how long an ended one took, and in narrow terminals how good it is."""
    if run.is_over:
        outcome = (
            duration(seconds_taken(run)) if width >= 110 else f"{duration(seconds_taken(run))} {quality(run).removeprefix('acc. ')}"
        )
        return [(pad(outcome, 14) + " ", PALETTE.text)]
    return [*gauge(fraction or 0.0, 8, PALETTE.accent, PALETTE.rest), (pad_left(percent(fraction), 6) + " ", PALETTE.text)]


def _rate_piece(rate: float | None, silent: float, width: int) -> Piece:
    """Samples per second; in narrow terminals their age instead, if they are old."""
    if silent and width < 110:
        return pad_left(f"{GLYPHS['stale']} {age(silent)}", 9), PALETTE.warning
    return pad_left(number(rate), 9), PALETTE.dim if silent else PALETTE.text


def silent_seconds(state: State, run: RunState) -> float:
    """Longest time without a message from a node of the run, in seconds; 0: no node is stale or lost."""
    nodes = [state.nodes[name] for name in run.nodes if name in state.nodes]
    return max((state.at - node.at for node in nodes if node.state in ("stale", "lost") and node.at is not None), default=0.0)


def job_heading(width: int, order: Order) -> Strip:
    """Column headings; a click on one sorts by it."""
    columns = (
        sortable_heading(f"  {pad('state', 11)}", "state", order),
        sortable_heading(pad("run", 23), "newest", order),
        sortable_heading(pad("workload", 11), "workload", order),
        sortable_heading(pad("nodes", 7), "nodes", order),
        (pad("progress, took", 15), PALETTE.dim),
        sortable_heading(pad_left("samples/s", 9), "throughput", order),
    )
    more = f"   {pad('started', 14)}{pad('metric', 15)}name, policies" if width >= 110 else ""
    return line(width, *columns, (more, PALETTE.dim))


def _waiting_row(state: State, job: WaitingJob, width: int, background: Style) -> Strip:
    """A waiting job: what it waits for and how long. It has no run id and no progress yet."""
    waited, more = age(state.at - job.since), f" +{len(job.in_use) - 1}" if len(job.in_use) > 1 else ""
    device, user = job.in_use[0]
    holders = f"{sanitize(device)}{more}" + (f": {sanitize(user)}" if user else "")
    state_piece: Piece = (f"{GLYPHS[WAITING_JOB_ID]} {pad(WAITING_JOB_ID, 11)}", PALETTE.state_style(WAITING_JOB_ID))
    workload = pad(sanitize(job.workload), 10) + " "
    if width < 110:
        return line(width, state_piece, (workload, PALETTE.text), (f"{waited}, {holders}", PALETTE.dim), background=background)
    waited_piece: Piece = (pad(f"for {waited}", 23), PALETTE.dim)
    nodes = pad_left(str(len(job.nodes)), 5) + "  "
    return line(
        width, state_piece, waited_piece, (workload + nodes, PALETTE.text), (f"{holders}", PALETTE.dim), background=background
    )


def job_row(view: View, key: str, width: int, is_under_cursor: bool) -> Strip:
    """One run or the waiting job."""
    background = PALETTE.cursor if is_under_cursor else NO_STYLE
    if key == WAITING_JOB_ID and view.state.waiting is not None:
        return _waiting_row(view.state, view.state.waiting, width, background)
    run = view.state.runs.get(key)
    if run is None:
        return Strip.blank(width, NO_STYLE)
    style = PALETTE.state_style(run.state)
    is_found = run.is_discovered and not run.is_over
    state = "found" if is_found and width < 110 and run.state == "running" else run.state
    run_progress = progress(run, view.state.at)
    fraction = run_progress.fraction if run.cases else None
    rate = _current_rate(run)
    silent = 0.0 if run.is_over or run.state in ("queued", "waiting") else silent_seconds(view.state, run)
    pieces: list[Piece] = [
        (f"{GLYPHS[run.state]} {pad(state, 11)}", style),
        (pad(sanitize(run.run_id), 22) + " ", PALETTE.text),
        (pad(sanitize(run.workload), 10) + " ", PALETTE.text),
        (pad_left(str(len(run.nodes)), 5) + "  ", PALETTE.text),
        *_progress_pieces(run, fraction, width),
        _rate_piece(rate, silent, width),
    ]
    if silent and width >= 110:
        pieces.append((f"   {GLYPHS['stale']} no word for {age(silent)}", PALETTE.warning))
    if width >= 110:
        policies = ", ".join(map(sanitize, run.summary.policies or dict.fromkeys(case.name for case in run.cases)))
        pieces.append((f"   {pad(day_and_time(view.state, started_at(view.state, run)), 14)}", PALETTE.dim))
        pieces.append((pad(quality(run), 15), PALETTE.text))
        pieces.append((f"{sanitize(run.name)}  " if run.name else "", PALETTE.accent))
        pieces.append((policies, PALETTE.dim))
        if is_found:
            follows = "" if run.ranks or view.is_replay else ", Enter follows it"
            pieces.append((f"{'  ' if policies else ''}{FOUND_AGAIN_TEXT}{follows}", PALETTE.accent))
        pieces.append((f"  {sanitize(run.reason)}" if run.reason else "", PALETTE.state_style(run.state)))
    return line(width, *pieces, background=background)


JOB_COLUMNS = (
    "run_id",
    "name",
    "state",
    "workload",
    "policies",
    "nodes",
    "started",
    "seconds",
    "samples_per_second",
    "loss",
    "metric",
    "metric_name",
    "reason",
)


def job_table(state: State, keys: Iterable[str]) -> list[Sequence[object]]:
    """The rows as data: a heading, then one row a run; None: unknown. Times are seconds since 1970."""
    rows: list[Sequence[object]] = [JOB_COLUMNS]
    for run in (state.runs[key] for key in keys if key in state.runs):
        summary = run.summary
        start: list[object] = [run.run_id, run.name, run.state, run.workload, " ".join(summary.policies), " ".join(run.nodes)]
        figures: list[object] = [started_at(state, run), seconds_taken(run) if run.is_over else None, _current_rate(run)]
        rows.append([*start, *figures, summary.loss, summary.metric, summary.metric_name, run.reason])
    return rows


def job_summary(view: View, width: int, order: Order) -> list[Strip]:
    """The line above the list: counts, and the order at the right."""
    runs = view.state.runs.values()
    waiting = view.state.waiting is not None
    if not runs and not waiting:
        return [line(width, ("no runs yet: press : and type  bench  or  train", PALETTE.dim))]
    active = sum(not run.is_over for run in runs)
    left: list[Piece] = [
        (count(len(runs), "run"), PALETTE.text),
        (f"  {active} active", PALETTE.accent if active else PALETTE.dim),
    ]
    left.append(("  1 waits for devices" if waiting else "", PALETTE.text))
    return [justified_line(width, left, [order.label])]
