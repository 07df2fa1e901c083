"""The parts of the run screen: who works, who waits, what was decided and whether it helped. Pure."""

from __future__ import annotations

from paceline.engine.store.questions import imbalance_now, open_alerts, progress, throughput_now, throughput_of, wall_clock
from paceline.engine.store.state import CaseState, Decision, RankState, RunState, State
from textual.strip import Strip

from ..format import UNKNOWN, age, clock, count, duration, fit, loss, milliseconds, number, percent, ratio, right, untrusted
from ..messages import View
from ..theme import GLYPHS, PALETTE
from .chart import Curve, Frame, Mark, chart
from .lines import BLOCK, Piece, bar, gauge, line, nice_ceiling, spread, stacked

SLOW = 1.15
"""A rank whose compute seconds exceed the median by this factor holds the others up visibly."""
GAP = 3.0
"""Seconds without a step that a curve does not bridge."""


def sizes(local_batch_sizes: tuple[int, ...]) -> str:
    """``183/131/28/42``; many ranks in short."""
    if len(local_batch_sizes) > 8:
        return f"{min(local_batch_sizes)}…{max(local_batch_sizes)} on {len(local_batch_sizes)} ranks"
    return "/".join(map(str, local_batch_sizes)) or UNKNOWN


# Head ---------------------------------------------------------------------------------------------------------------------------


def run_head(view: View, width: int, height: int) -> list[Strip]:
    """What runs, how far it is, how long it takes."""
    run = view.run
    if run is None:
        if view.state.phase:
            return [line(width, (f"{GLYPHS['starting']} {untrusted(view.state.phase)}", PALETTE.text))]
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
    return [spread(width, left, _cases(run) if len(run.cases) > 1 else []), _progress(view, run, width)]


def _cases(run: RunState) -> list[Piece]:
    pieces: list[Piece] = []
    for index, case in enumerate(run.cases):
        state = "running" if index == run.case and case.state != "done" and not run.is_over else case.state
        style = PALETTE.accent_strong if state in ("running", "measuring") else PALETTE.dim if state == "done" else PALETTE.faint
        pieces.append((f"  {GLYPHS.get(state, '·')} {untrusted(case.name)}", style))
    return pieces


def _progress(view: View, run: RunState, width: int) -> Strip:
    if run.phase and run.state == "starting":
        share = f" {percent(run.fraction)}" if run.fraction is not None else ""
        done = gauge(run.fraction, 20, PALETTE.accent, PALETTE.rest) if run.fraction is not None else []
        return line(width, (f"{untrusted(run.phase)}  ", PALETTE.text), *done, (share, PALETTE.dim))
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
    text = ""
    if run.cases and all(found.state == "done" for found in run.cases):
        return line(width, ("all cases are done, collecting the result", PALETTE.text))
    if case is not None and run.epochs:
        epoch = min(case.epoch + 1, run.epochs)
        text = f"  epoch {epoch} of {run.epochs} · step {seen.steps} of {seen.steps_total}"
        if width < 100:
            text = f"  {untrusted(case.name, 12)} {run.case + 1}/{len(run.cases)} · epoch {epoch}/{run.epochs}"
        if case.state == "measuring":
            text = f"  {untrusted(case.name)}: measuring each device alone"
    left = "" if seen.seconds_left is None else f" · about {duration(seen.seconds_left)} left"
    tail = f" {percent(seen.fraction)}{left}"
    room = max(8, width - len(tail) - len(text) - 1)
    return line(width, *gauge(seen.fraction, room, PALETTE.accent, PALETTE.rest), (tail, PALETTE.text), (text, PALETTE.dim))


# Ranks --------------------------------------------------------------------------------------------------------------------------


def rank_lines(view: View, width: int, height: int) -> list[Strip]:
    """One line a rank: its share, and its step as compute and wait on a common scale."""
    run = view.run
    if run is None or not run.ranks:
        return [line(width, ("the ranks appear here once a run is planned", PALETTE.dim))]
    ranks = sorted(run.ranks.values(), key=lambda rank: rank.rank)
    name = min(28, max(14, width // 4))
    share = max(6, min(14, width // 9))
    bars = width - (5 + name + 5 + share + 1 + 6 + 6 + 2)
    longest = max((_step(rank) for rank in ranks), default=0.0)
    scale = nice_ceiling(longest * 1.02) if longest > 0 else 1.0
    heading = f"rank {fit('device', name)}{fit('batch', share + 6)}{right('compute', 7)}{right('wait', 5)}  "
    lines = [line(width, (heading, PALETTE.dim), (_scale(scale, bars) if longest > 0 else "", PALETTE.dim))]
    room = max(1, height - 2)
    slow = _slowest(ranks)
    largest = max((rank.local_batch_size or 0 for rank in ranks), default=0)
    for rank in ranks if len(ranks) <= room else _worst(ranks, room - 1):
        lines.append(_rank_line(view.state, rank, width, name, share, bars, scale, largest, rank.rank == slow))
    if len(ranks) > room:
        lines.append(line(width, (f"+{len(ranks) - room + 1} ranks that wait longer hidden", PALETTE.dim)))
    uneven = imbalance_now(run)
    end = [("compute ", PALETTE.dim), (BLOCK, PALETTE.bar), ("  wait ", PALETTE.dim), ("░", PALETTE.wait)]
    if uneven is not None:
        end.append((f"   imbalance {percent(uneven)}", PALETTE.text if uneven < 0.2 else PALETTE.warning))
    if len(lines) < height:
        lines.append(line(width, (" " * max(0, width - sum(len(text) for text, _ in end)), PALETTE.dim), *end))
    return lines


def _step(rank: RankState) -> float:
    return max(0.0, rank.compute_seconds or 0.0) + max(0.0, rank.wait_seconds or 0.0)


def _worst(ranks: list[RankState], amount: int) -> list[RankState]:
    """Those the others wait for, in the order of ranks."""
    kept = sorted(ranks, key=lambda rank: -(rank.compute_seconds or 0.0))[: max(0, amount)]
    return sorted(kept, key=lambda rank: rank.rank)


def _slowest(ranks: list[RankState]) -> int | None:
    """The rank that holds the others up, if one does."""
    seconds = sorted((rank.compute_seconds, rank.rank) for rank in ranks if rank.compute_seconds is not None)
    if len(seconds) < 2:
        return None
    median = seconds[(len(seconds) - 1) // 2][0]
    return seconds[-1][1] if median > 0 and seconds[-1][0] > SLOW * median else None


def _scale(scale: float, width: int) -> str:
    """``0      200      400 ms`` over the bars."""
    middle, end = milliseconds(scale / 2), f"{milliseconds(scale)} ms"
    if width < len(middle) + len(end) + 6:
        return right(end, width)
    half = fit("0", width // 2 - len(middle) // 2) + middle
    return half + right(end, width - len(half))


def _rank_line(
    state: State, rank: RankState, width: int, name: int, share: int, bars: int, scale: float, largest: int, is_slow: bool
) -> Strip:
    where = f"{untrusted(rank.node)} {untrusted(rank.device_name)}".strip()
    node = state.nodes.get(rank.node)
    glyph, glyph_style = " ", PALETTE.text
    if rank.failure:
        glyph, glyph_style = GLYPHS["failed"], PALETTE.critical
    elif node is not None and node.state in ("stale", "lost", "refused"):
        glyph, glyph_style = GLYPHS[node.state], PALETTE.of(node.state)
    elif is_slow:
        glyph, glyph_style = GLYPHS["warning"], PALETTE.warning
    start: list[Piece] = [
        (right(str(rank.rank), 4) + " ", PALETTE.dim),
        (fit(where, name - 2), PALETTE.text),
        (glyph + " ", glyph_style),
    ]
    if rank.failure:
        return line(width, *start, (untrusted(rank.failure), PALETTE.critical))
    size = right(UNKNOWN if rank.local_batch_size is None else str(rank.local_batch_size), 5) + " "
    start += [(size, PALETTE.strong), (bar((rank.local_batch_size or 0) / largest if largest else None, share), PALETTE.bar_past)]
    if rank.compute_seconds is None:
        word = "waiting for its first step" if rank.is_joined else "joining"
        return line(width, *start, (f"  {word}", PALETTE.dim))
    late = "" if rank.at is None or state.at - rank.at < 10 else f" {GLYPHS['stale']} {age(state.at - rank.at)}"
    waits = rank.wait_seconds or 0.0
    return line(
        width,
        *start,
        (right(milliseconds(rank.compute_seconds), 7), PALETTE.text),
        (right(milliseconds(rank.wait_seconds), 5) + "  ", PALETTE.wait if waits > 0.15 * _step(rank) else PALETTE.dim),
        *stacked(((rank.compute_seconds, BLOCK, PALETTE.bar), (waits, "░", PALETTE.wait)), scale, max(0, bars - len(late))),
        (late, PALETTE.warning),
    )


# Curves -------------------------------------------------------------------------------------------------------------------------


def throughput_chart(view: View, width: int, height: int) -> list[Strip]:
    """Samples per second over the whole run, with the cases and their rebalances on the axis."""
    run = view.run
    if run is None or not any(case.throughput for case in run.cases):
        return [line(width, ("samples per second appear here with the first steps", PALETTE.dim))]
    now = run.current
    best = max(value for case in run.cases for _, value in case.throughput)
    levels = _levels(run)
    high = nice_ceiling(max([best, *levels]) * 1.03)
    start, end = _span(run, view.state.at)
    frame = Frame(start, end, 0.0, high, GAP)
    curves = [Curve(case.throughput, PALETTE.bar if case is now else PALETTE.bar_past) for case in run.cases]
    marks = [Mark(case.started_at, untrusted(case.name)) for case in run.cases if case.started_at is not None]
    marks += [Mark(decision.at, "", "▲") for case in run.cases for decision in case.decisions]
    lines = chart(curves, frame, width, height - 1, PALETTE.dim, PALETTE.faint, levels, sorted(marks, key=lambda mark: mark.at))
    return [*lines, line(width, *_throughput_words(run, now))]


def _span(run: RunState, at: float) -> tuple[float, float]:
    start = run.stepping_at if run.stepping_at is not None else run.first_at
    start = min([start, *(case.started_at for case in run.cases if case.started_at is not None)])
    until = run.ended_at if run.ended_at is not None else at
    return start, max(until, start + 20.0)


def _levels(run: RunState) -> list[float]:
    """What the curve is compared with, as far as it is known by now."""
    levels = []
    limit = next((sum(rate for _, rate in case.standalone) for case in reversed(run.cases) if _is_whole(run, case)), None)
    if limit is not None:
        levels.append(limit)
    return levels


def _is_whole(run: RunState, case: CaseState) -> bool:
    return bool(run.ranks) and len(case.standalone) == len(run.ranks)


def _throughput_words(run: RunState, case: CaseState | None) -> list[Piece]:
    now = throughput_now(case) if case is not None else None
    pieces: list[Piece] = [
        (f"{number(now)} samples/s", PALETTE.accent_strong),
        (" now" if not run.is_over else " at the end", PALETTE.dim),
    ]
    equal = next((throughput_of(found) for found in run.cases if found.policy == "equal" and found is not case), None)
    if now is not None and equal:
        pieces.append((f" · {ratio(now / equal)} equal", PALETTE.text))
    for level in _levels(run)[:1]:
        if now is not None and level > 0:
            pieces.append((f" · {percent(now / level)} of the sum of rates {number(level)} ┈", PALETTE.dim))
    if any(found.decisions for found in run.cases):
        pieces.append((" · ▲ rebalance", PALETTE.dim))
    return pieces


def loss_chart(view: View, width: int, height: int) -> list[Strip]:
    """Training loss of the case in hand, and what its last epoch was worth."""
    run = view.run
    case = run.current if run else None
    if run is None or case is None or not case.losses:
        return [line(width, ("the loss appears here with the first steps", PALETTE.dim))]
    values = [value for _, value in case.losses]
    low, high = min(values), max(values)
    end = case.ended_at if case.ended_at is not None else case.losses[-1][0]
    start = case.losses[0][0]
    frame = Frame(
        start, max(end, start + 10.0), min(0.0, low) if low < 0.3 * high else low, high if high > low else low + 1.0, 60.0
    )
    lines = chart([Curve(case.losses, PALETTE.bar)], frame, width, height, PALETTE.dim, PALETTE.faint, form="{:.2f}")
    words: list[Piece] = [(untrusted(case.name), PALETTE.accent_strong), (f"  loss {loss(values[-1])}", PALETTE.text)]
    if case.epochs:
        last = case.epochs[-1]
        words.append((f" · validation {loss(last.loss)}", PALETTE.text))
        if last.metric is not None:
            shown = percent(last.metric) if last.metric_name == "accuracy" else loss(last.metric)
            words.append((f" · {untrusted(last.metric_name)} {shown}", PALETTE.text))
    return [*lines[:-1], line(width, *words)]


# Decisions and alerts -----------------------------------------------------------------------------------------------------------


def decision_lines(view: View, width: int, height: int) -> list[Strip]:
    """Changes of the shares, newest first: what, why, what was expected, what came of it."""
    run = view.run
    found = [decision for case in (run.cases if run else ()) for decision in case.decisions]
    if not found:
        text = "no shares were changed so far; every change appears here with its reason and its effect"
        return [line(width, (text, PALETTE.dim))]
    lines: list[Strip] = []
    for decision in sorted(found, key=lambda one: (one.at, one.step), reverse=True):
        if len(lines) >= height:
            break
        lines += _decision(view.state, decision, width)
    return lines


def _decision(state: State, decision: Decision, width: int) -> list[Strip]:
    when = clock(wall_clock(state, decision.at))
    first: list[Piece] = [
        (f"{when}  ", PALETTE.dim),
        (fit(untrusted(decision.case), 13), PALETTE.accent),
        (fit(f"step {decision.step}", 10), PALETTE.text),
        (sizes(decision.before), PALETTE.dim),
        (" → ", PALETTE.dim),
        (sizes(decision.after), PALETTE.strong),
    ]
    effect: list[Piece] = []
    if decision.predicted_after is not None:
        before = milliseconds(decision.predicted_before)
        effect.append((f"predicted {before} → {milliseconds(decision.predicted_after)} ms", PALETTE.dim))
    if decision.measured is not None:
        effect.append((f" · measured {milliseconds(decision.measured)} ms", PALETTE.text))
        if decision.predicted_after:
            is_true = abs(decision.measured - decision.predicted_after) <= 0.1 * decision.predicted_after
            off = decision.measured / decision.predicted_after - 1
            effect.append((" ✔", PALETTE.ok) if is_true else (f" {off:+.0%}", PALETTE.warning))
    else:
        effect.append((" · being measured", PALETTE.dim))
    reason: Piece = (untrusted(decision.reason), PALETTE.text)
    if width >= 110:
        return [line(width, *first), line(width, (" " * 10, PALETTE.dim), reason, (" · ", PALETTE.dim), *effect)]
    return [line(width, *first), line(width, ("  ", PALETTE.dim), *effect), line(width, ("  ", PALETTE.dim), reason)]


def alert_lines(view: View, width: int, height: int) -> list[Strip]:
    """What is wrong with the run or its nodes right now; worst first."""
    alerts = open_alerts(view.state, view.run)
    if not alerts:
        return [line(width, (f"{GLYPHS['ok']} ", PALETTE.ok), ("nothing is wrong", PALETTE.dim))]
    lines: list[Strip] = []
    for alert in alerts:
        if len(lines) >= height:
            break
        what = " ".join(filter(None, (untrusted(alert.node), untrusted(alert.text))))
        since = age(view.state.at - alert.at)
        more = f"  (+{len(alerts) - 1}, 4 shows all)" if height == 1 and len(alerts) > 1 else ""
        room = width - 2 - len(since) - 2 - len(more)
        pieces: list[Piece] = [(f"{GLYPHS[alert.severity]} ", PALETTE.of(alert.severity)), (fit(what, room), PALETTE.text)]
        lines.append(line(width, *pieces, (f"  {since}{more}", PALETTE.dim)))
        if alert.hint and len(lines) < height:
            lines.append(line(width, (f"  {untrusted(alert.hint)}", PALETTE.dim)))
    return lines
