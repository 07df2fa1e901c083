"""What runs, how far it is, how long it takes: the two lines over every run. Pure."""

from __future__ import annotations

from paceline.engine.store.selectors import joined, measured_alone, phase_left, predicted_left, progress
from paceline.engine.store.state import RunState
from textual.strip import Strip

from ...messages import View
from ...terminal.format import UNKNOWN, count, duration, percent, untrusted
from ...theme import GLYPHS, PALETTE
from ..drawing.lines import Piece, gauge, line, spread


def run_head(view: View, width: int, height: int) -> list[Strip]:
    """What runs, how far it is, how long it takes."""
    run = view.run
    if run is None:
        return [line(width, ("no run yet", PALETTE.strong)), line(width, ("press : and type  bench  or  train", PALETTE.dim))]
    word = PALETTE.of(run.state)
    left: list[Piece] = [
        (f"{GLYPHS[run.state]} {run.state}  ", word),
        (untrusted(run.workload) or "run", PALETTE.strong),
        (f"  {untrusted(run.run_id)}", PALETTE.dim),
    ]
    if width >= 120 and run.ranks:
        left.append((f"   {count(len(run.ranks), 'rank')} on {count(len(run.nodes), 'node')}", PALETTE.dim))
        left.append((f" · batch {run.global_batch_size:,}" if run.global_batch_size else "", PALETTE.dim))
        left.append((" · emulated" if run.is_emulated else "", PALETTE.dim))
        left.append((", network too" if run.is_network_emulated else "", PALETTE.dim))
    elif run.is_emulated:
        left.append((" emulated", PALETTE.dim))
    return [spread(width, left, _cases(run) if len(run.cases) > 1 else []), _progress(view, run, width)]


def _cases(run: RunState) -> list[Piece]:
    """The policies of the round in hand; of several rounds, which one that is."""
    pieces: list[Piece] = []
    size = max(1, len({case.policy or case.name for case in run.cases}))
    first, rounds = run.case // size * size, -(-len(run.cases) // size)
    if rounds > 1:
        pieces.append((f"round {first // size + 1} of {rounds} ", PALETTE.dim))
    for index, case in list(enumerate(run.cases))[first : first + size]:
        state = "running" if index == run.case and case.state != "done" and not run.is_over else case.state
        style = PALETTE.accent_strong if state in ("running", "measuring") else PALETTE.dim
        pieces.append((f"  {GLYPHS.get(state, '·')} {untrusted(case.policy or case.name)}", style))
    return pieces


def _progress(view: View, run: RunState, width: int) -> Strip:
    if run.phase and run.state == "starting":
        return _preparing(view, run, width)
    if run.is_over:
        took = duration(run.ended_at - run.first_at) if run.ended_at is not None else UNKNOWN
        if run.state == "done":
            return line(width, (f"took {took}", PALETTE.text), ("   5 shows the results", PALETTE.dim))
        return line(width, (f"{untrusted(run.reason) or run.state} ", PALETTE.of(run.state)), (f"after {took}", PALETTE.dim))
    if run.state == "unreachable":
        who = ", ".join(untrusted(node) for node in run.unreachable)
        return line(width, (f"{who} out of reach: the view is missing, the run goes on there", PALETTE.warning))
    seen = progress(run, view.state.at)
    case = run.current
    model = _by_the_model(run, seen.steps_total - seen.steps)
    text = ""
    if run.cases and all(found.state == "done" for found in run.cases):
        return line(width, ("all cases are done, collecting the result", PALETTE.text))
    if case is not None and run.epochs:
        epoch = min(case.epoch + 1, run.epochs)
        text = f"  epoch {epoch} of {run.epochs} · step {seen.steps} of {seen.steps_total}"
        if width < 100:
            text = f"  {untrusted(case.name, 12)} {run.case + 1}/{len(run.cases)} · epoch {epoch}/{run.epochs}"
        if case.state == "measuring":
            measured, all_of_them = measured_alone(run, case)
            text = f"  {untrusted(case.name)}: measuring each device alone, {measured} of {all_of_them}"
    left = "" if seen.seconds_left is None else f" · about {duration(seen.seconds_left)} left"
    tail = f" {percent(seen.fraction)}{left}"
    text += model if width >= 120 else ""
    room = max(8, width - len(tail) - len(text) - 1)
    return line(width, *gauge(seen.fraction, room, PALETTE.accent, PALETTE.rest), (tail, PALETTE.text), (text, PALETTE.dim))


def _preparing(view: View, run: RunState, width: int) -> Strip:
    """What a launch is busy with: how far it is, how much of how much, and the time it will still take."""
    there, ranks = joined(run)
    fraction, detail = run.fraction, untrusted(run.detail)
    if fraction is None and 0 < there < ranks:
        fraction, detail = there / ranks, f"{there} of {count(ranks, 'rank')}"
    if fraction is None:
        return line(width, (untrusted(run.phase), PALETTE.text))
    left = phase_left(run, view.state.at)
    tail = f" {percent(fraction)}" + (f" · {detail}" if detail else "") + ("" if left is None else f" · {duration(left)} left")
    return line(
        width,
        (f"{untrusted(run.phase)}  ", PALETTE.text),
        *gauge(fraction, 20, PALETTE.accent, PALETTE.rest),
        (tail, PALETTE.dim),
    )


def time_left(view: View) -> list[Piece]:
    """Predicted before the launch beside what its steps show: while it runs what is left, at its end what it took."""
    run = view.run
    if run is None or not run.cases or not run.epochs or run.state not in ("running", "done"):
        return []
    if run.is_over:
        samples = run.samples_per_epoch * run.epochs
        rates = [case.predicted for case in run.cases]
        told = sum(samples / rate for rate in rates if rate) if all(rates) and samples else None
        took = sum(epoch.seconds for case in run.cases for epoch in case.epochs)
        words = f"epochs predicted {duration(told)} · took {duration(took)} "
    else:
        left = progress(run, view.state.at).seconds_left
        words = f"left: predicted {duration(predicted_left(run))} · real {duration(left)} "
    return [(words, PALETTE.dim)]


def _by_the_model(run: RunState, steps: int) -> str:
    """What is left of the case in hand as its last decision predicted it, beside what its steps measure."""
    case = run.current
    last = case.decisions[-1] if case is not None and case.decisions else None
    if last is None or last.predicted_after is None or last.measured is None or steps <= 0:
        return ""
    predicted, measured = duration(last.predicted_after * steps), duration(last.measured * steps)
    return f" · of this case {measured} left, predicted {predicted}"
