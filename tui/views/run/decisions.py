"""The moments of a run as lines: decisions with their effect, stragglers, failures; and its open alerts. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from paceline.engine.store.selectors import open_alerts, wall_clock
from paceline.engine.store.state import Alert, CaseState, RunState, ShareDecision, State, Straggler
from paceline.engine.store.straggler_alerts import describe
from textual.strip import Strip

from ...messages import View
from ...terminal.format import UNKNOWN, age, clock, milliseconds, pad, sanitize
from ...theme import GLYPHS, PALETTE
from ..drawing.lines import NO_STYLE, Piece, line

PREDICTION_TOLERANCE = 0.1
"""A decision is marked as wrong if the measured step time exceeds the predicted one by this fraction or more."""
ALL_MOMENTS_MIN_LINES = 4
"""Height below which only decisions are listed, in lines."""


@dataclass(frozen=True, slots=True)
class RunMoment:
    """A decision, straggler or alert of a run, which the keys n and N select."""

    key: str
    at: float
    what: ShareDecision | Straggler | Alert
    case: CaseState | None = None


def moments(state: State, run: RunState | None) -> list[RunMoment]:
    """Decisions, stragglers and alerts of a run and its nodes, newest first."""
    if run is None:
        return []
    run_moments: list[RunMoment] = []
    for case in run.cases:
        run_moments += [RunMoment(f"decision {case.name} {one.step}", one.at, one, case) for one in case.decisions]
        run_moments += [
            RunMoment(f"straggler {case.name} {one.found.straggler} {one.at}", one.at, one, case) for one in case.stragglers
        ]
    end = run.ended_at if run.ended_at is not None else state.at
    nodes = set(run.nodes)
    run_moments += [
        RunMoment(f"alert {' '.join(alert.key)} {alert.at}", alert.at, alert)
        for alert in state.alerts
        if alert.key[0] != "straggler"
        and (alert.run_id == run.run_id or (not alert.run_id and alert.node in nodes and run.first_event_at <= alert.at <= end))
    ]
    return sorted(run_moments, key=lambda moment: (moment.at, moment.key), reverse=True)


def sizes(local_batch_sizes: tuple[int, ...]) -> str:
    """Local batch sizes as ``183/131/28/42``; of more than 8 ranks only the range."""
    if len(local_batch_sizes) > 8:
        return f"{min(local_batch_sizes)}…{max(local_batch_sizes)} on {len(local_batch_sizes)} ranks"
    return "/".join(map(str, local_batch_sizes)) or UNKNOWN


def decision_lines(
    view: View, width: int, height: int, selected: str | None = None, hint: str = "n and N go through them"
) -> list[Strip]:
    """Moments, newest first; the selected one is always visible. ``hint``: how to reach the hidden ones."""
    run_moments = moments(view.state, view.run)
    if not run_moments:
        text = "no shares changed so far; each change appears here with its effect"
        if view.run is not None and view.run.is_over:
            text = "no shares were changed"
        return [line(width, (text, PALETTE.dim))]
    if height < ALL_MOMENTS_MIN_LINES:
        # Where there is room for one only, it is the last decision: alerts are shown in the line below.
        run_moments = [
            moment for moment in run_moments if isinstance(moment.what, ShareDecision) or moment.key == selected
        ] or run_moments
    blocks = [_moment(view, moment, width, moment.key == selected) for moment in run_moments]
    selected_index = next((index for index, moment in enumerate(run_moments) if moment.key == selected), 0)
    first = 0
    while first < selected_index and sum(map(len, blocks[first : selected_index + 1])) > height - 1:
        first += 1
    lines: list[Strip] = []
    block_count = 0
    for block in blocks[first:]:
        if lines and len(lines) + len(block) > height - (first + block_count + 1 < len(blocks)):
            break
        lines += block
        block_count += 1
    hidden = len(run_moments) - block_count
    if hidden and len(lines) < height:
        lines.append(line(width, (f"+{hidden} hidden", PALETTE.accent), (f"  {hint}", PALETTE.dim)))
    return lines[:height]


def _moment(view: View, moment: RunMoment, width: int, is_selected: bool) -> list[Strip]:
    background = PALETTE.cursor if is_selected else NO_STYLE
    start: list[Piece] = [(f"{clock(wall_clock(view.state, moment.at))}  ", PALETTE.accent if is_selected else PALETTE.dim)]
    match moment.what:
        case ShareDecision():
            rows = _decision(moment.what, start, width)
        case Straggler():
            rows = _straggler(view, moment.what, start, width)
        case Alert():
            rows = _alert(moment.what, start)
    return [line(width, *pieces, background=background) for pieces in rows]


def _case_and_step(case: str, step: int) -> list[Piece]:
    return [(pad(sanitize(case), 13), PALETTE.accent), (pad(f"step {step}", 10), PALETTE.text)]


def _decision(decision: ShareDecision, start: list[Piece], width: int) -> list[list[Piece]]:
    first: list[Piece] = [
        *start,
        *_case_and_step(decision.case, decision.step),
        (sizes(decision.before), PALETTE.dim),
        (" → ", PALETTE.dim),
        (sizes(decision.after), PALETTE.strong),
    ]
    effect: list[Piece] = []
    if decision.predicted_after is not None:
        before = milliseconds(decision.predicted_before)
        effect.append((f"predicted {before} → {milliseconds(decision.predicted_after)} ms a step", PALETTE.dim))
    effect += _outcome(decision)
    reason: Piece = (sanitize(decision.reason), PALETTE.text)
    if width >= 110:
        return [first, [(" " * 10, PALETTE.dim), reason, (" · ", PALETTE.dim), *effect]]
    return [first, [("  ", PALETTE.dim), *effect], [("  ", PALETTE.dim), reason]]


def _outcome(decision: ShareDecision) -> list[Piece]:
    """Measured against predicted step time: a tick, or the relative error."""
    if decision.measured is None:
        return [(" · being measured", PALETTE.dim)]
    pieces: list[Piece] = [(f" · measured {milliseconds(decision.measured)} ms", PALETTE.text)]
    if decision.predicted_after:
        off = decision.measured / decision.predicted_after - 1
        pieces.append((" ✔", PALETTE.ok) if off < PREDICTION_TOLERANCE else (f" ✖ {off:+.0%}", PALETTE.warning))
    return pieces


def _straggler(view: View, straggler: Straggler, start: list[Piece], width: int) -> list[list[Piece]]:
    event, run = straggler.found, view.run
    assert run is not None
    glyph: Piece = (f"{GLYPHS['warning']} ", PALETTE.warning if straggler.is_open else PALETTE.dim)
    rank = run.ranks.get(event.straggler) if event.straggler is not None else None
    node = f"{sanitize(rank.node)} " if rank is not None else ""
    text = node + sanitize(describe(run, straggler))
    rows: list[list[Piece]] = [[*start, *_case_and_step(event.case, event.step), glyph, (text, PALETTE.text)]]
    if width < 110:
        rows = [[*start, *_case_and_step(event.case, event.step)], [("  ", PALETTE.dim), glyph, (text, PALETTE.text)]]
    if straggler.ended is not None:
        gain = "" if straggler.ended.gain is None else f"; changed shares brought back {straggler.ended.gain:.0%} of the lost time"
        end_text = f"itself again at step {straggler.ended.step}{gain}"
        rows.append([(" " * (10 if width >= 110 else 4), PALETTE.dim), (end_text, PALETTE.dim)])
    return rows


def _alert(alert: Alert, start: list[Piece]) -> list[list[Piece]]:
    style = PALETTE.dim if alert.ended_at is not None else PALETTE.state_style(alert.severity)
    text = " ".join(filter(None, (sanitize(alert.node), sanitize(alert.text))))
    return [[*start, (f"{GLYPHS[alert.severity]} ", style), (text, PALETTE.text)]]


def alert_lines(view: View, width: int, height: int) -> list[Strip]:
    """Open alerts of the run and its nodes, worst first."""
    alerts = open_alerts(view.state, view.run)
    if not alerts:
        return [line(width, (f"{GLYPHS['ok']} ", PALETTE.ok), ("nothing is wrong", PALETTE.dim))]
    lines: list[Strip] = []
    for index, alert in enumerate(alerts):
        if len(lines) >= height:
            break
        text = " ".join(filter(None, (sanitize(alert.node), sanitize(alert.text))))
        since = age(view.state.at - alert.at)
        remaining = len(alerts) - index - 1
        is_last = len(lines) + 1 == height
        more = f"  (+{remaining}, 4 shows all)" if is_last and remaining else ""
        room = width - 2 - len(since) - 2 - len(more)
        pieces: list[Piece] = [(f"{GLYPHS[alert.severity]} ", PALETTE.state_style(alert.severity)), (pad(text, room), PALETTE.text)]
        lines.append(line(width, *pieces, (f"  {since}{more}", PALETTE.dim)))
        advice = " · ".join(filter(None, (alert.action_taken, alert.hint)))
        if advice and len(lines) + (remaining > 0) < height:
            lines.append(line(width, (f"  {sanitize(advice)}", PALETTE.dim)))
    return lines
