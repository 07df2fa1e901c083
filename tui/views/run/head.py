"""The head of a run: two lines with state, workload, cases and progress. Pure."""

from __future__ import annotations

from paceline.engine.store.selectors import (
    joined_ranks,
    phase_seconds_left,
    predicted_seconds_left,
    progress,
    resume_refusal,
    seconds_taken,
    standalone_progress,
)
from paceline.engine.store.state import RunState
from rich.cells import cell_len
from textual.strip import Strip

from ...messages import View
from ...terminal.format import count, duration, pad, percent, sanitize
from ...theme import GLYPHS, PALETTE
from ..drawing.lines import Piece, gauge, justified_line, line


def run_head(view: View, width: int, height: int) -> list[Strip]:
    """State, workload and cases, then progress and time left."""
    run = view.run
    if run is None:
        return [line(width, ("no run yet", PALETTE.strong)), line(width, ("press : and type  bench  or  train", PALETTE.dim))]
    state_style = PALETTE.state_style(run.state)
    left: list[Piece] = [
        (f"{GLYPHS[run.state]} {run.state}  ", state_style),
        (sanitize(run.workload) or "run", PALETTE.strong),
        (f"  {sanitize(run.run_id)}", PALETTE.dim),
    ]
    if width >= 120 and run.ranks:
        left.append((f"   {count(len(run.ranks), 'rank')} on {count(len(run.nodes), 'node')}", PALETTE.dim))
        left.append((f" · batch {run.global_batch_size:,}" if run.global_batch_size else "", PALETTE.dim))
        left.append((f" · {_balance(run)}" if run.balance is not None else "", PALETTE.dim))
        left.append((" · emulated" if run.is_emulated else "", PALETTE.dim))
        left.append((", network too" if run.is_network_emulated else "", PALETTE.dim))
    elif run.is_emulated:
        left.append((" emulated", PALETTE.dim))
    return [justified_line(width, left, _cases(run) if len(run.cases) > 1 else []), _progress_line(view, run, width)]


def _balance(run: RunState) -> str:
    """Whether the batches of a script follow the shares."""
    balance = run.balance
    return "balanced" if balance is not None and balance.state == "balanced" else "shares equal, script as it is"


def _cases(run: RunState) -> list[Piece]:
    """The policies of the current repeat, and which repeat that is."""
    pieces: list[Piece] = []
    size = max(1, len({case.policy or case.name for case in run.cases}))
    first, rounds = run.case // size * size, -(-len(run.cases) // size)
    if rounds > 1:
        pieces.append((f"round {first // size + 1} of {rounds} ", PALETTE.dim))
    for index, case in list(enumerate(run.cases))[first : first + size]:
        state = "running" if index == run.case and case.state != "done" and not run.is_over else case.state
        style = PALETTE.accent_strong if state in ("running", "measuring") else PALETTE.dim
        pieces.append((f"  {GLYPHS.get(state, '·')} {sanitize(case.policy or case.name)}", style))
    return pieces


def _progress_line(view: View, run: RunState, width: int) -> Strip:
    if run.phase and run.state == "starting":
        return _preparation_line(view, run, width)
    if run.is_over:
        took = duration(seconds_taken(run))
        if run.state == "done":
            return line(width, (f"took {took}", PALETTE.text), ("   5 shows the results", PALETTE.dim))
        offer = ""
        if run.checkpoint is not None and not resume_refusal(run):
            offer = f"   R resumes it from epoch {run.checkpoint[0] + 1}, step {run.checkpoint[1]}"
        end: list[Piece] = [(f"  after {took}", PALETTE.dim), (offer, PALETTE.accent)]
        room = max(1, width - sum(len(text) for text, _ in end))
        reason = sanitize(run.reason) or run.state
        return line(width, (pad(reason, min(room, cell_len(reason))), PALETTE.state_style(run.state)), *end)
    if run.state == "unreachable":
        unreachable = ", ".join(sanitize(node) for node in run.unreachable_nodes)
        return line(width, (f"{unreachable} out of reach: the view is missing, the run goes on there", PALETTE.warning))
    run_progress = progress(run, view.state.at)
    case = run.current
    text = ""
    if run.cases and all(finished.state == "done" for finished in run.cases):
        return line(width, ("all cases are done, collecting the result", PALETTE.text))
    if case is not None and run.epochs:
        epoch = min(case.epoch + 1, run.epochs)
        text = f"  epoch {epoch} of {run.epochs} · step {run_progress.steps} of {run_progress.steps_total}"
        if width < 100:
            text = f"  {sanitize(case.name, 12)} {run.case + 1}/{len(run.cases)} · epoch {epoch}/{run.epochs}"
        if case.state == "measuring":
            measured, all_of_them = standalone_progress(run, case)
            text = f"  {sanitize(case.name)}: measuring each device alone, {measured} of {all_of_them}"
    left = "" if run_progress.seconds_left is None else f" · ETA {duration(run_progress.seconds_left)}"
    tail = f" {percent(run_progress.fraction)}{left}"
    predicted = predicted_seconds_left(run)
    text += f" · predicted before the launch {duration(predicted)}" if width >= 120 and predicted is not None else ""
    room = max(8, width - len(tail) - len(text) - 1)
    return line(width, *gauge(run_progress.fraction, room, PALETTE.accent, PALETTE.rest), (tail, PALETTE.text), (text, PALETTE.dim))


def _preparation_line(view: View, run: RunState, width: int) -> Strip:
    """The current phase of a launch, its progress, and the time left."""
    joined, ranks = joined_ranks(run)
    fraction, detail = run.fraction, sanitize(run.detail)
    if fraction is None and 0 < joined < ranks:
        fraction, detail = joined / ranks, f"{joined} of {count(ranks, 'rank')}"
    if fraction is None:
        return line(width, (sanitize(run.phase), PALETTE.text))
    left = phase_seconds_left(run, view.state.at)
    tail = f" {percent(fraction)}" + (f" · {detail}" if detail else "") + ("" if left is None else f" · {duration(left)} left")
    return line(
        width,
        (f"{sanitize(run.phase)}  ", PALETTE.text),
        *gauge(fraction, 20, PALETTE.accent, PALETTE.rest),
        (tail, PALETTE.dim),
    )


def time_left(view: View) -> list[Piece]:
    """The duration of all epochs of a run that is over, beside the one predicted before the launch, if it was predicted."""
    run = view.run
    if run is None or not run.cases or not run.epochs or run.state != "done":
        return []
    samples = run.samples_per_epoch * run.epochs
    rates = [case.predicted_samples_per_second for case in run.cases]
    if not all(rates) or not samples:
        return []
    predicted = sum(samples / rate for rate in rates if rate)
    measured = sum(epoch.seconds for case in run.cases for epoch in case.epochs)
    return [(f"training {duration(measured)} · predicted {duration(predicted)} ", PALETTE.dim)]
